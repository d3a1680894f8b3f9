import type { CanonContext } from './canon-context.ts';
import { GuestResource } from './guest-resource.ts';
import type { ResourcePlan } from './plan.ts';
import { hostMismatch, trap } from './trap.ts';

/** How handles of one resource type become objects and back, for owned and for borrowed ones. */
export type ResourceCodec = {
  readonly lift: (cx: CanonContext, handle: number) => unknown;
  readonly lower: (cx: CanonContext, value: unknown) => number;
};

export function resourceCodec(kind: 'own' | 'borrow', resource: number, plan: ResourcePlan): ResourceCodec {
  if (plan.kind === 'imported')
    return kind === 'own' ? hostOwn(resource, plan.name) : hostBorrow(resource, plan.name);
  return kind === 'own' ? guestOwn(resource) : guestBorrow(resource);
}

function hostOwn(resource: number, name: string): ResourceCodec {
  return {
    lift: ({ state }, handle) => state.handles.takeOwn(handle, resource),
    lower: ({ state }, value) => {
      if (!state.links.isInstance(resource, value, state)) hostMismatch(`a "${name}"`, value);
      return state.handles.addOwn(resource, value);
    },
  };
}

function hostBorrow(resource: number, name: string): ResourceCodec {
  return {
    lift: (cx, handle) => {
      const entry = cx.state.handles.get(handle, resource);
      if (cx.lent !== undefined) {
        entry.lends += 1;
        cx.lent.push(entry);
      }
      return entry.value;
    },
    lower: ({ state }, value) => {
      if (!state.links.isInstance(resource, value, state)) hostMismatch(`a "${name}"`, value);
      if (state.call === undefined) trap('a handle is lent outside of a call');
      return state.handles.addBorrow(resource, value, state.call);
    },
  };
}

function representationOf(resource: number, value: unknown): number {
  const given =
    value instanceof GuestResource && value.resource === resource ? value.representation : undefined;
  return given ?? hostMismatch('a resource of the guest that was not given back yet', value);
}

function guestOwn(resource: number): ResourceCodec {
  return {
    lift: ({ state }, handle) =>
      new GuestResource(resource, state.handles.takeOwn(handle, resource) as number),
    lower: ({ state }, value) => {
      const representation = representationOf(resource, value);
      (value as GuestResource).release();
      return state.handles.addOwn(resource, representation);
    },
  };
}

function guestBorrow(resource: number): ResourceCodec {
  return {
    lift: ({ state }, handle) =>
      new GuestResource(resource, state.handles.get(handle, resource).value as number),
    // A component that defines a resource gets its own representation of it, not a handle (canonical ABI).
    lower: (_cx, value) => representationOf(resource, value),
  };
}
