import { childPath, quoted } from './manifest-key.ts';
import { documentError, type Table } from './manifest-table.ts';

/** A component published to a package registry. */
export type PackageRef = {
  /** Domain of the registry; absent = the client's default. */
  readonly registry?: string;
  /** `namespace:name`. */
  readonly name: string;
  /** Exact version of a component source, or version requirement of a dependency. */
  readonly version: string;
};

/**
 * Where the bytes of a component or file are. One or more of the ways are given; `digest` alone means a blob of the
 * image the document came from.
 */
export type ContentRef = {
  readonly contentType?: string;
  /** URL of the content (`file:`, `http:`, `https:`), or, from a manifest only, a path relative to the manifest. */
  readonly source?: string;
  /** The content itself, already decoded. */
  readonly inline?: Uint8Array;
  /** `sha256:<64 lower-case hex>` of the content. */
  readonly digest?: string;
  /** From a manifest only: never in the JSON. */
  readonly package?: PackageRef;
};

/** A file of a component: `path` is relative, with forward slashes and normal components only. */
export type LockedFile = { readonly path: string; readonly content: ContentRef };

/** Longest path (UTF-16 units) of a file in a locked application: Linux's PATH_MAX. */
export const maxFilePathLength = 4096;

/** Whether the text is `sha256:` and 64 lower-case hexadecimal digits. */
export function isSha256Digest(text: string): boolean {
  return /^sha256:[0-9a-f]{64}$/.test(text);
}

/** Whether a path is relative and made of normal components only: no empty one, no `.`, no `..`, no NUL. */
export function isNormalPath(path: string): boolean {
  if (path.length > maxFilePathLength || path.includes('\0')) return false;
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}

function decodeBase64(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64');
  // Buffer ignores what it cannot read, so only a round trip shows that all of it was meant.
  return bytes.toString('base64') === text ? new Uint8Array(bytes) : undefined;
}

/** Reads the content fields of a table of a locked application (spin.md 1.10); at least one of them must be given. */
export function parseContentRef(table: Table): ContentRef {
  const contentType = table.optionalString('content_type');
  const source = table.optionalString('source');
  const digest = table.optionalString('digest');
  const encoded = table.optionalString('inline');
  if (digest !== undefined && !isSha256Digest(digest)) {
    throw table.error('digest', `must be "sha256:" and 64 hexadecimal digits, not ${quoted(digest)}`);
  }
  const inline = encoded === undefined ? undefined : decodeBase64(encoded);
  if (encoded !== undefined && inline === undefined) throw table.error('inline', 'is not valid base64');
  if (source === undefined && digest === undefined && inline === undefined) {
    throw table.error(undefined, 'must have at least one of "source", "inline", "digest"');
  }
  return {
    ...(contentType !== undefined && { contentType }),
    ...(source !== undefined && { source }),
    ...(inline !== undefined && { inline }),
    ...(digest !== undefined && { digest }),
  };
}

/** Reads the list of files of a component; a path that occurs twice or is not normal is an error. */
export function parseLockedFiles(component: Table, key: string): readonly LockedFile[] {
  const seen = new Set<string>();
  return component.tables(key).map((table) => {
    const path = table.string('path');
    if (!isNormalPath(path)) {
      throw table.error('path', `must be relative without "." or "..", not ${quoted(path)}`);
    }
    if (seen.has(path)) {
      throw documentError(component.origin, childPath(table.path, 'path'), `${quoted(path)} occurs twice`);
    }
    seen.add(path);
    return { path, content: parseContentRef(table) };
  });
}
