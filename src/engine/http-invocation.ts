import { ShimError } from '../error.ts';
import type { HeaderList, HttpExchange } from '../host/http-exchange.ts';
import type { ComponentGrant } from '../host/imports.ts';
import { GuestExit } from '../host/wasi/cli.ts';
import { acceptExchange, type ExchangeOutcome, sendFailure } from '../host/wasi/http/accept-exchange.ts';
import type { LineThrottle } from '../telemetry/line-throttle.ts';
import type { ComponentRuntime, HostMaker } from './guest-instance.ts';
import type { GuestPace } from './guest-pace.ts';
import { answerWithHandler } from './http-answer.ts';
import type { RequestDesk } from './request-desk.ts';

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
  /** How long its guests keep the thread. */
  readonly pace: GuestPace;
  /** Lines about requests that found no room. */
  readonly refusals: LineThrottle;
};

/** The outcome of an exchange that is still open after its scope ended. */
const unsettled: ExchangeOutcome = { kind: 'no-response' };

/** The scope ended because the request is over; no failure. */
const requestOver = new Error('the request is over');

/** What a client is told when the app is at its limit of instances and of requests that wait for one. */
const retryAfter: HeaderList = [['retry-after', Buffer.from('1')]];

/**
 * One request: an instance in its first state, the guest's `handle`, the answer. Resolves when the guest is done and the response is
 * sent or cut; a guest that traps, exits or answers nothing leaves 500 or a cut connection and a line in the app's log. A
 * request whose time is over is 504, as of a gateway: whoever is before us can tell it from a failure of the guest. One for
 * which there is no room is 503.
 */
export async function invokeHttp(
  component: HttpComponent,
  exchange: HttpExchange,
  desk: RequestDesk,
): Promise<void> {
  const { permits } = desk;
  const scope = desk.open(`component "${component.runtime.id}", ${requestLine(exchange)}`, component.pace);
  const onGone = (): void => scope.end(new Error('the client closed the connection'));
  exchange.signal.addEventListener('abort', onGone, { once: true });
  if (exchange.signal.aborted) onGone();
  try {
    if (!permits.tryAcquire()) await permits.acquire(scope);
  } catch (thrown) {
    exchange.signal.removeEventListener('abort', onGone);
    scope.end(requestOver);
    desk.close(scope);
    refuse(component, exchange, thrown);
    return;
  }
  try {
    if (scope.ended !== undefined) throw scope.ended;
    // Start-up code of the guest counts as well; what follows may be in a later turn.
    desk.enter(scope);
    const acquired = component.runtime.acquire(scope, component.makeHosts);
    const instance = acquired instanceof Promise ? await acquired : acquired;
    let accepted: { readonly outcome: ExchangeOutcome | undefined };
    let failure: Error | undefined;
    desk.enter(scope);
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
    // What ends a guest that is waiting reaches it as the failure of the call it waits in.
    failure = scope.ended ?? failure;
    // What is kept for another request as it is has to be given back before the scope takes it along.
    const keepsState = component.asynchronous && failure === undefined;
    if (keepsState) instance.release(true);
    scope.end(failure ?? requestOver);
    if (!keepsState) instance.release(failure === undefined);
    // A host object that a hostile guest made fail half-way may have left the exchange as it was.
    const outcome = accepted.outcome ?? unsettled;
    if (outcome.kind === 'error' || outcome.kind === 'no-response')
      sendFailure(exchange.response, statusOf(failure));
    report(component, exchange, describe(outcome, failure));
  } catch (thrown) {
    scope.end(ShimError.from(thrown));
    sendFailure(exchange.response, statusOf(thrown));
    report(component, exchange, `could not be started: ${textOf(thrown)}`);
  } finally {
    exchange.signal.removeEventListener('abort', onGone);
    desk.close(scope);
    permits.release();
  }
}

/** A request that got no instance: no room for it, or its time was over first. */
function refuse(component: HttpComponent, exchange: HttpExchange, thrown: unknown): void {
  if (isOverdue(thrown)) {
    sendFailure(exchange.response, statusOf(thrown));
    report(component, exchange, `was not called: ${textOf(thrown)}`);
    return;
  }
  sendFailure(exchange.response, 503, retryAfter);
  if (!exchange.signal.aborted)
    component.refusals.line(`component "${component.runtime.id}" was not called: ${textOf(thrown)}`);
}

function isOverdue(thrown: unknown): boolean {
  return thrown instanceof ShimError && thrown.code === 'deadline-exceeded';
}

function statusOf(failure: unknown): number {
  return isOverdue(failure) ? 504 : 500;
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
