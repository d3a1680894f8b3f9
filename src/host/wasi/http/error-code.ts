import type { IoError } from '../io.ts';
import { SourceFailure } from '../io.ts';

/** wasi:http/types `field-size-payload`. */
export type FieldSize = { readonly fieldName?: string; readonly fieldSize?: number };

/** wasi:http/types `error-code`, tags as the WIT spells them. */
export type ErrorCode =
  | { readonly tag: PlainTag }
  | { readonly tag: 'DNS-error'; readonly val: { readonly rcode?: string; readonly infoCode?: number } }
  | {
      readonly tag: 'TLS-alert-received';
      readonly val: { readonly alertId?: number; readonly alertMessage?: string };
    }
  | { readonly tag: 'HTTP-request-body-size' | 'HTTP-response-body-size'; readonly val?: bigint }
  | {
      readonly tag:
        | 'HTTP-request-header-section-size'
        | 'HTTP-request-trailer-section-size'
        | 'HTTP-response-header-section-size'
        | 'HTTP-response-trailer-section-size';
      readonly val?: number;
    }
  | { readonly tag: 'HTTP-request-header-size'; readonly val?: FieldSize }
  | {
      readonly tag: 'HTTP-request-trailer-size' | 'HTTP-response-header-size' | 'HTTP-response-trailer-size';
      readonly val: FieldSize;
    }
  | {
      readonly tag: 'HTTP-response-transfer-coding' | 'HTTP-response-content-coding' | 'internal-error';
      readonly val?: string;
    };

type PlainTag =
  | 'DNS-timeout'
  | 'destination-not-found'
  | 'destination-unavailable'
  | 'destination-IP-prohibited'
  | 'destination-IP-unroutable'
  | 'connection-refused'
  | 'connection-terminated'
  | 'connection-timeout'
  | 'connection-read-timeout'
  | 'connection-write-timeout'
  | 'connection-limit-reached'
  | 'TLS-protocol-error'
  | 'TLS-certificate-error'
  | 'HTTP-request-denied'
  | 'HTTP-request-length-required'
  | 'HTTP-request-method-invalid'
  | 'HTTP-request-URI-invalid'
  | 'HTTP-request-URI-too-long'
  | 'HTTP-response-incomplete'
  | 'HTTP-response-timeout'
  | 'HTTP-upgrade-failed'
  | 'HTTP-protocol-error'
  | 'loop-detected'
  | 'configuration-error';

/** A failure inside the host that already knows its WIT error code; never thrown at a guest as such. */
export class HttpFailure extends Error {
  override readonly name = 'HttpFailure';
  readonly errorCode: ErrorCode;

  constructor(errorCode: ErrorCode) {
    super(`HTTP error ${errorCode.tag}`);
    this.errorCode = errorCode;
  }
}

/** What Spin answers for any name that does not resolve (reference/spin.md 4.4). */
export const addressNotAvailable: ErrorCode = {
  tag: 'DNS-error',
  val: { rcode: 'address not available', infoCode: 0 },
};

/** Error codes of Node, c-ares, OpenSSL and undici that say one thing whenever they happen. */
const codeByName = new Map<string, ErrorCode>([
  ['ECONNREFUSED', { tag: 'connection-refused' }],
  ['ECONNRESET', { tag: 'connection-terminated' }],
  ['ECONNABORTED', { tag: 'connection-terminated' }],
  ['EPIPE', { tag: 'connection-terminated' }],
  ['UND_ERR_SOCKET', { tag: 'connection-terminated' }],
  ['UND_ERR_CLOSED', { tag: 'connection-terminated' }],
  ['UND_ERR_DESTROYED', { tag: 'connection-terminated' }],
  ['ETIMEDOUT', { tag: 'connection-timeout' }],
  ['UND_ERR_CONNECT_TIMEOUT', { tag: 'connection-timeout' }],
  // Spin and wasmtime report the first byte's timeout as one of reading, not as HTTP-response-timeout.
  ['UND_ERR_HEADERS_TIMEOUT', { tag: 'connection-read-timeout' }],
  ['UND_ERR_BODY_TIMEOUT', { tag: 'connection-read-timeout' }],
  ['ENETUNREACH', { tag: 'destination-IP-unroutable' }],
  ['EHOSTUNREACH', { tag: 'destination-unavailable' }],
  ['EADDRNOTAVAIL', addressNotAvailable],
  ['ENOTFOUND', addressNotAvailable],
  ['ENODATA', addressNotAvailable],
  ['ETIMEOUT', { tag: 'DNS-timeout' }],
  ['EMFILE', { tag: 'connection-limit-reached' }],
  ['ENFILE', { tag: 'connection-limit-reached' }],
  ['UND_ERR_MAX_ORIGINS_REACHED', { tag: 'connection-limit-reached' }],
  ['UND_ERR_HEADERS_OVERFLOW', { tag: 'HTTP-response-header-section-size' }],
  ['HPE_HEADER_OVERFLOW', { tag: 'HTTP-response-header-section-size' }],
  ['UND_ERR_RES_CONTENT_LENGTH_MISMATCH', { tag: 'HTTP-response-incomplete' }],
  ['UND_ERR_REQ_CONTENT_LENGTH_MISMATCH', { tag: 'HTTP-request-body-size' }],
  ['UND_ERR_INVALID_ARG', { tag: 'HTTP-protocol-error' }],
  ['UND_ERR_NOT_SUPPORTED', { tag: 'HTTP-protocol-error' }],
  ['EPROTO', { tag: 'TLS-protocol-error' }],
  ['ERR_TLS_CERT_ALTNAME_INVALID', { tag: 'TLS-certificate-error' }],
  ['CERT_HAS_EXPIRED', { tag: 'TLS-certificate-error' }],
  ['CERT_NOT_YET_VALID', { tag: 'TLS-certificate-error' }],
  ['CERT_REVOKED', { tag: 'TLS-certificate-error' }],
  ['CERT_REJECTED', { tag: 'TLS-certificate-error' }],
  ['CERT_UNTRUSTED', { tag: 'TLS-certificate-error' }],
  ['CERT_SIGNATURE_FAILURE', { tag: 'TLS-certificate-error' }],
  ['CERT_CHAIN_TOO_LONG', { tag: 'TLS-certificate-error' }],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', { tag: 'TLS-certificate-error' }],
  ['SELF_SIGNED_CERT_IN_CHAIN', { tag: 'TLS-certificate-error' }],
  ['UNABLE_TO_GET_ISSUER_CERT', { tag: 'TLS-certificate-error' }],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', { tag: 'TLS-certificate-error' }],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', { tag: 'TLS-certificate-error' }],
  ['INVALID_CA', { tag: 'TLS-certificate-error' }],
  ['INVALID_PURPOSE', { tag: 'TLS-certificate-error' }],
  ['HOSTNAME_MISMATCH', { tag: 'TLS-certificate-error' }],
]);

function nameOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** The WIT error code of anything that Node or undici reports about a connection. */
export function errorCodeOf(error: unknown): ErrorCode {
  if (error instanceof HttpFailure) return error.errorCode;
  const name = nameOf(error);
  const known = codeByName.get(name);
  if (known !== undefined) return known;
  const alert = /^ERR_SSL_(?:TLSV1|SSLV3|TLSV13)_ALERT_([A-Z_]{1,64})$/.exec(name);
  if (alert?.[1] !== undefined) {
    return { tag: 'TLS-alert-received', val: { alertMessage: alert[1].toLowerCase().replaceAll('_', ' ') } };
  }
  if (name.startsWith('ERR_SSL_') || name.startsWith('ERR_TLS_')) return { tag: 'TLS-protocol-error' };
  if (name.startsWith('HPE_') || name.startsWith('ERR_HTTP2_')) return { tag: 'HTTP-protocol-error' };
  if (error instanceof AggregateError && error.errors.length > 0) return errorCodeOf(error.errors[0]);
  if (error instanceof Error && error.cause !== undefined) return errorCodeOf(error.cause);
  return { tag: 'internal-error', ...(name === '' ? {} : { val: name }) };
}

/** wasi:http/types `http-error-code`: the code behind a stream's `last-operation-failed`, if HTTP caused it. */
export function httpErrorCode(error: IoError): ErrorCode | undefined {
  return error instanceof SourceFailure && error.cause instanceof HttpFailure
    ? error.cause.errorCode
    : undefined;
}
