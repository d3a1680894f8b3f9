import { ShimError } from '../error.ts';
import type { HttpExchange } from '../host/http-exchange.ts';
import type { ComponentGrant } from '../host/imports.ts';
import { InstanceScope } from '../host/scope.ts';
import { GuestExit } from '../host/wasi/cli.ts';
import { acceptExchange, type ExchangeOutcome, sendFailure } from '../host/wasi/http/accept-exchange.ts';
import type { ComponentRuntime, HostMaker } from './guest-instance.ts';
import { answerWithHandler } from './http-answer.ts';
import type { Permits } from './permits.ts';

/** A component that answers HTTP requests, with everything an instance of it needs. */
export type HttpComponent = {
  readonly runtime: ComponentRuntime;
  readonly grant: ComponentGrant;
  /** Name of the export that is called. */
  readonly handler: string;
  /** Whether that is wasi:http/handler of 0.3, which returns its response. */
  readonly asynchronous: boolean;
  /** Makes the host objects of each of its instances. */
  readonly makeHosts: HostMaker;
};

/** The outcome of an exchange that is still open after its scope ended. */
const unsettled: ExchangeOutcome = { kind: 'no-response' };

/** The scope ended because the request is over; no failure. */
const requestOver = new Error('the request is over');

/**
 * One request: an instance in its first state, the guest's `handle`, the answer. Resolves when the guest is done and the response is
 * sent or cut; a guest that traps, exits or answers nothing leaves 500 or a cut connection and a line in the app's log.
 */
export async function invokeHttp(
  component: HttpComponent,
  exchange: HttpExchange,
  permits: Permits,
): Promise<void> {
  let release: () => void;
  try {
    release = await permits.acquire(exchange.signal);
  } catch (thrown) {
    sendFailure(exchange.response);
    report(component, exchange, `was not called: ${textOf(thrown)}`);
    return;
  }
  const scope = new InstanceScope();
  const onGone = (): void => scope.end(new Error('the client closed the connection'));
  exchange.signal.addEventListener('abort', onGone, { once: true });
  if (exchange.signal.aborted) onGone();
  try {
    const acquired = component.runtime.acquire(scope, component.makeHosts);
    const instance = acquired instanceof Promise ? await acquired : acquired;
    let accepted: { readonly outcome: ExchangeOutcome | undefined };
    let failure: Error | undefined;
    if (component.asynchronous) {
      const answer = await answerWithHandler(instance, component.handler, exchange, scope);
      accepted = answer;
      failure = answer.failure;
    } else {
      const exchanged = acceptExchange(exchange, scope);
      const { request, outparam } = exchanged;
      accepted = exchanged;
      try {
        await instance.call(component.handler, 'handle', [request, outparam]);
      } catch (thrown) {
        failure = thrown instanceof Error ? thrown : new Error(String(thrown));
      }
    }
    scope.end(failure ?? requestOver);
    instance.release(failure === undefined);
    // A host object that a hostile guest made fail half-way may have left the exchange as it was.
    const outcome = accepted.outcome ?? unsettled;
    if (outcome.kind === 'error' || outcome.kind === 'no-response') sendFailure(exchange.response);
    report(component, exchange, describe(outcome, failure));
  } catch (thrown) {
    scope.end(ShimError.from(thrown));
    sendFailure(exchange.response);
    report(component, exchange, `could not be started: ${textOf(thrown)}`);
  } finally {
    exchange.signal.removeEventListener('abort', onGone);
    release();
  }
}

/** What went wrong, if anything; a guest that fails after a whole response was sent is still told of. */
function describe(outcome: ExchangeOutcome, failure: Error | undefined): string | undefined {
  const why = failure === undefined ? undefined : textOf(failure);
  switch (outcome.kind) {
    case 'sent':
      return failure === undefined || failure instanceof GuestExit
        ? undefined
        : `failed after its response was sent: ${why}`;
    case 'cut':
      return `did not complete its response${why === undefined ? '' : `: ${why}`}`;
    case 'error':
      return `answered with the error "${outcome.code.tag}"`;
    case 'no-response':
      return why === undefined ? 'returned without a response' : `failed: ${why}`;
    default:
      return outcome satisfies never;
  }
}

function textOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

function report(component: HttpComponent, exchange: HttpExchange, problem: string | undefined): void {
  if (problem === undefined || exchange.signal.aborted) return;
  component.grant.http.warn(`component "${component.runtime.id}" ${problem} (${requestLine(exchange)})`);
}

/** Method and path, without the query: it may hold secrets. */
export function requestLine({ method, pathWithQuery }: HttpExchange): string {
  const query = pathWithQuery.indexOf('?');
  return `${method} ${query < 0 ? pathWithQuery : pathWithQuery.slice(0, query)}`;
}
