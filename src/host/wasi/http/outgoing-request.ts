import type { InstanceScope } from '../../scope.ts';
import { BodyChannel } from './body-channel.ts';
import { contentLengthOf, type FieldMap, Fields } from './fields.ts';
import { isMethod, type Method, type Scheme } from './method.ts';
import { OutgoingBody } from './outgoing-body.ts';

/** Longest authority and path with query, characters each (what the `http` crate behind Spin takes). */
export const maxUriLength = 65_534;

/** RFC 3986 `host [":" port]`; no user information, no percent-encoding, nothing that another parser reads as a path. */
const authorityText = /^[A-Za-z0-9\-._~!$&'()*+,;=:[\]]*$/;

const schemeText = /^[A-Za-z][A-Za-z0-9+\-.]{0,63}$/;

/** A path with query: anything but white space, control characters and the fragment's mark. */
export function isPath(text: string): boolean {
  if (text.length > maxUriLength || (text !== '' && text[0] !== '/' && text[0] !== '?')) return false;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code <= 0x20 || code === 0x23 || code === 0x7f) return false;
  }
  return true;
}

/** Whether a guest may set this scheme. */
export function isScheme(scheme: Scheme): boolean {
  return scheme.tag !== 'other' || schemeText.test(scheme.val);
}

/** Whether text is an authority that may be asked for. */
export function isAuthority(text: string): boolean {
  return text.length <= maxUriLength && authorityText.test(text);
}

/** A request that the guest has handed over. */
export type RequestParts = {
  readonly method: Method;
  readonly scheme: Scheme | undefined;
  readonly authority: string | undefined;
  readonly pathWithQuery: string | undefined;
  readonly fields: FieldMap;
  /** Undefined when the guest never asked for the body: there is none. */
  readonly body: BodyChannel | undefined;
};

/** wasi:http/types `outgoing-request`. */
export class OutgoingRequest {
  readonly #scope: InstanceScope;
  readonly #fields: FieldMap;
  #method: Method = { tag: 'get' };
  #scheme: Scheme | undefined;
  #authority: string | undefined;
  #pathWithQuery: string | undefined;
  #body: BodyChannel | undefined;

  constructor(scope: InstanceScope, headers: Fields) {
    this.#scope = scope;
    this.#fields = Fields.take(headers);
    scope.adopt(this);
  }

  /** Takes the request out of a handle that the guest gave away. */
  static take(request: OutgoingRequest): RequestParts {
    request.#scope.release(request);
    return {
      method: request.#method,
      scheme: request.#scheme,
      authority: request.#authority,
      pathWithQuery: request.#pathWithQuery,
      fields: request.#fields,
      body: request.#body,
    };
  }

  body(): OutgoingBody {
    const contentLength = contentLengthOf(this.#fields);
    if (this.#body !== undefined || contentLength === 'invalid') throw undefined;
    this.#body = new BodyChannel(this.#scope, { message: 'request', contentLength });
    return new OutgoingBody(this.#scope, this.#body);
  }

  method(): Method {
    return this.#method;
  }

  setMethod(method: Method): void {
    if (!isMethod(method)) throw undefined;
    this.#method = method;
  }

  pathWithQuery(): string | undefined {
    return this.#pathWithQuery;
  }

  setPathWithQuery(pathWithQuery: string | undefined): void {
    if (pathWithQuery !== undefined && !isPath(pathWithQuery)) throw undefined;
    this.#pathWithQuery = pathWithQuery;
  }

  scheme(): Scheme | undefined {
    return this.#scheme;
  }

  setScheme(scheme: Scheme | undefined): void {
    if (scheme !== undefined && !isScheme(scheme)) throw undefined;
    this.#scheme = scheme;
  }

  authority(): string | undefined {
    return this.#authority;
  }

  setAuthority(authority: string | undefined): void {
    if (authority !== undefined && !isAuthority(authority)) throw undefined;
    this.#authority = authority;
  }

  headers(): Fields {
    return Fields.view(this.#scope, this.#fields);
  }

  [Symbol.dispose](): void {
    this.#scope.release(this);
    this.#fields.release();
    this.#body?.abort({ tag: 'connection-terminated' });
  }
}
