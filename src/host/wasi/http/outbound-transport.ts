import type { Agent, buildConnector } from 'undici';

/** What connections are made with. */
export type OutboundTransport = {
  readonly Agent: typeof Agent;
  readonly buildConnector: typeof buildConnector;
  /** Certificates Node trusts, PEM. */
  readonly rootCertificates: readonly string[];
};

/** Loads the HTTP client. It takes some 8 MB and 60 ms in a worker, so only when a guest makes its first request. */
export async function loadOutboundTransport(): Promise<OutboundTransport> {
  // A bundle has no named exports for a CommonJS package that is loaded on demand.
  const { Agent, buildConnector } = (await import('undici')).default;
  return { Agent, buildConnector, rootCertificates: process.getBuiltinModule('node:tls').rootCertificates };
}
