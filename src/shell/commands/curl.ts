import { type Command, type CommandContext, CommandFailure, takeOptions } from '../command.ts';
import { nowhere } from '../streams.ts';
import { componentOf } from './app.ts';
import { durationMs } from './basics.ts';
import { sendInbound } from './curl-inbound.ts';
import { sendOutbound } from './curl-outbound.ts';
import { CurlFailure, type CurlRequest, type CurlResponse, curlExitCodes } from './curl-request.ts';

/** How long a request may take if nothing is said, milliseconds. */
const defaultTimeoutMs = 60_000;

/** Hosts that mean the app itself, on the port it listens at. */
const ownHosts: ReadonlySet<string> = new Set(['localhost', '127.0.0.1', '[::1]']);

/**
 * `curl`: into the app through its own listener, and out as a guest of the app: what no component may reach is refused
 * as it would be refused there.
 */
export const curlCommand: Command = {
  usage:
    '[-f] [-s] [-S] [-i] [-I] [-v] [-X METHOD] [-H FIELD] [-d BODY] [-m SECONDS] [-o /dev/null] [-c COMPONENT] URL',
  summary: 'ask the app (localhost, or a path alone), or what the app may reach',
  run: async (context) => {
    const { rest, options } = takeOptions(
      context.args,
      [
        '-f',
        '--fail',
        '-s',
        '--silent',
        '-S',
        '--show-error',
        '-i',
        '--include',
        '-I',
        '--head',
        '-v',
        '-4',
        '-6',
      ],
      [
        ...['-X', '--request', '-H', '--header', '-d', '--data', '-m', '--max-time', '-o', '--output'],
        ...['-c', '--component', '--connect-timeout', '-A', '--user-agent'],
      ],
    );
    const has = (...names: readonly string[]): boolean => names.some((name) => options.has(name));
    try {
      const [url, ...more] = rest;
      if (url === undefined || more.length > 0) throw CommandFailure.usage('one URL was expected');
      const output = options.get('-o') ?? options.get('--output');
      if (output !== undefined && output.at(-1) !== '/dev/null' && output.at(-1) !== '-') {
        throw CommandFailure.usage('nothing can be written to a file here: leave "-o" out');
      }
      const response = await send(context, requestOf(url, context, options), componentOf(options));
      const shown = output?.at(-1) === '/dev/null' ? { ...context, stdout: nowhere } : context;
      return await print(shown, response, {
        head: has('-i', '--include', '-I', '--head'),
        trace: has('-v'),
        fail: has('-f', '--fail'),
        quiet: has('-s', '--silent') && !has('-S', '--show-error'),
      });
    } catch (thrown) {
      if (!(thrown instanceof CurlFailure)) throw thrown;
      if (!has('-s', '--silent') || has('-S', '--show-error')) throw thrown;
      return thrown.exitCode;
    }
  },
};

function requestOf(
  text: string,
  { engine, signal }: CommandContext,
  options: ReadonlyMap<string, readonly string[]>,
): CurlRequest {
  const all = (...names: readonly string[]): readonly string[] =>
    names.flatMap((name) => options.get(name) ?? []);
  const data = all('-d', '--data');
  const isHead = options.has('-I') || options.has('--head');
  const method = all('-X', '--request').at(-1) ?? (isHead ? 'HEAD' : data.length > 0 ? 'POST' : 'GET');
  const port = engine.address.slice(engine.address.lastIndexOf(':') + 1);
  const full = text.startsWith('/')
    ? `http://localhost:${port}${text}`
    : text.includes('://')
      ? text
      : `http://${text}`;
  const url = URL.parse(full);
  if (url === null || !['http:', 'https:'].includes(url.protocol) || url.username !== '') {
    throw new CurlFailure(`"${text}" is no HTTP address that can be asked`, curlExitCodes.badUrl);
  }
  const timeout = all('-m', '--max-time').at(-1);
  const headers = all('-H', '--header').map((field): readonly [string, string] => {
    const colon = field.indexOf(':');
    if (colon < 1) throw CommandFailure.usage(`"${field}" is no header field: write "name: value"`);
    return [field.slice(0, colon).trim(), field.slice(colon + 1).trim()];
  });
  const names = new Set(headers.map(([name]) => name.toLowerCase()));
  const agent = all('-A', '--user-agent').at(-1) ?? 'spinshim-shell';
  return {
    url,
    method,
    headers: [
      ...headers,
      ...(names.has('user-agent') ? [] : [['user-agent', agent] as const]),
      ...(names.has('accept') ? [] : [['accept', '*/*'] as const]),
      ...(data.length === 0 || names.has('content-type')
        ? []
        : [['content-type', 'application/x-www-form-urlencoded'] as const]),
    ],
    body: data.length === 0 ? undefined : Buffer.from(data.join('&')),
    timeoutMs: timeout === undefined ? defaultTimeoutMs : durationMs(timeout),
    signal,
  };
}

/** Into the app when the address is its own, else out of it. */
function send(
  context: CommandContext,
  request: CurlRequest,
  component: string | undefined,
): Promise<CurlResponse> {
  const { url } = request;
  const port = Number(url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : url.port);
  const own = context.engine.address;
  const ownPort = Number(own.slice(own.lastIndexOf(':') + 1));
  const isOwn = ownHosts.has(url.hostname) || url.hostname === own.slice(0, own.lastIndexOf(':'));
  if (isOwn && port === ownPort && url.protocol === 'http:') return sendInbound(own, request);
  return sendOutbound(context, request, component);
}

async function print(
  { stdout, stderr }: CommandContext,
  { status, headers, body }: CurlResponse,
  show: { readonly head: boolean; readonly trace: boolean; readonly fail: boolean; readonly quiet: boolean },
): Promise<number> {
  const lines = [`HTTP ${status}`, ...headers.map(([name, value]) => `${name}: ${value}`)];
  if (show.trace) await stderr.write(lines.map((line) => `< ${line}\n`).join(''));
  if (show.fail && status >= 400) {
    if (!show.quiet) await stderr.write(`curl: the answer was ${status}\n`);
    return curlExitCodes.httpError;
  }
  if (show.head) await stdout.write(`${lines.join('\n')}\n\n`);
  for await (const chunk of body) await stdout.write(chunk);
  return 0;
}
