import { ShimError } from '../error.ts';
import { isDigest } from './oci-name.ts';
import type { Descriptor, ImageConfig, ImageIndex, ImageManifest, Platform } from './oci-types.ts';
import { isIndexType, isManifestType, mediaTypes } from './oci-types.ts';

/**
 * Untrusted bytes → manifests, indexes and configs. Everything is checked for type and size; names out of an image
 * end up in Maps, never as keys of an object.
 */

/** Largest manifest or index in bytes; registries and containerd have the same bound. */
export const maxImageManifestBytes = 4 * 1024 * 1024;
/** Largest image config in bytes. */
export const maxConfigBytes = 4 * 1024 * 1024;
/** Most layers of one manifest. */
export const maxLayers = 1000;
/** Most entries of one index. */
export const maxIndexEntries = 1000;
/** Most annotations or labels of one thing. */
export const maxAnnotations = 1000;

const maxMediaTypeLength = 255;

type JsonObject = Readonly<Record<string, unknown>>;

function bad(what: string, why: string, cause?: unknown): ShimError {
  return new ShimError('invalid-image', `${what} ${why}`, cause === undefined ? {} : { cause });
}

function asObject(value: unknown, what: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw bad(what, 'is not a JSON object');
  return value as JsonObject;
}

function own(object: JsonObject, key: string): unknown {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

function asString(value: unknown, what: string): string {
  if (typeof value !== 'string') throw bad(what, 'is not a string');
  return value;
}

function asArray(value: unknown, what: string, most: number): readonly unknown[] {
  if (!Array.isArray(value)) throw bad(what, 'is not a list');
  if (value.length > most) throw bad(what, `has ${value.length} entries, and at most ${most} are taken`);
  return value;
}

function asStringMap(value: unknown, what: string): ReadonlyMap<string, string> {
  const map = new Map<string, string>();
  if (value === undefined || value === null) return map;
  const entries = Object.entries(asObject(value, what));
  if (entries.length > maxAnnotations) {
    throw bad(what, `has ${entries.length} entries, and at most ${maxAnnotations} are taken`);
  }
  for (const [name, text] of entries) map.set(name, asString(text, `an entry of ${what}`));
  return map;
}

function parseJson(bytes: Uint8Array, what: string, maxBytes: number): JsonObject {
  if (bytes.byteLength > maxBytes) {
    throw bad(what, `is ${bytes.byteLength} bytes long, and at most ${maxBytes} are taken`);
  }
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw bad(what, 'is not JSON in UTF-8', error);
  }
  return asObject(value, what);
}

function parsePlatform(value: unknown, what: string): Platform {
  const object = asObject(value, what);
  const variant = own(object, 'variant');
  return {
    os: asString(own(object, 'os'), `os of ${what}`),
    architecture: asString(own(object, 'architecture'), `architecture of ${what}`),
    ...(variant === undefined ? {} : { variant: asString(variant, `variant of ${what}`) }),
  };
}

/** A descriptor out of parsed JSON. Throws `invalid-image`; `what` says in the message whose it is. */
export function parseDescriptor(value: unknown, what: string): Descriptor {
  const object = asObject(value, what);
  const mediaType = asString(own(object, 'mediaType'), `media type of ${what}`);
  if (mediaType.length > maxMediaTypeLength) throw bad(`media type of ${what}`, 'is too long');
  const digest = asString(own(object, 'digest'), `digest of ${what}`);
  if (!isDigest(digest)) {
    throw bad(
      `digest ${JSON.stringify(digest.slice(0, 80))} of ${what}`,
      'is neither sha256 nor sha512 in lower-case hex',
    );
  }
  const size = own(object, 'size');
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw bad(`size of ${what}`, 'is not a number of bytes');
  }
  const platform = own(object, 'platform');
  const annotations = own(object, 'annotations');
  return {
    mediaType,
    digest,
    size,
    ...(platform === undefined || platform === null
      ? {}
      : { platform: parsePlatform(platform, `platform of ${what}`) }),
    ...(annotations === undefined || annotations === null
      ? {}
      : { annotations: asStringMap(annotations, `annotations of ${what}`) }),
  };
}

/**
 * A manifest or an index. The descriptor's media type decides which; the document's own `mediaType` must agree when
 * it is there, so that one set of bytes cannot be read both ways. Throws `invalid-image`.
 */
export function parseImageManifest(bytes: Uint8Array, mediaType: string): ImageManifest | ImageIndex {
  const what = `image manifest (${mediaType})`;
  const object = parseJson(bytes, what, maxImageManifestBytes);
  if (own(object, 'schemaVersion') !== 2) throw bad(what, 'has a schemaVersion other than 2');
  const stated = own(object, 'mediaType');
  if (stated !== undefined && stated !== mediaType) {
    throw bad(what, `calls itself ${JSON.stringify(String(stated).slice(0, maxMediaTypeLength))}`);
  }
  const annotations = asStringMap(own(object, 'annotations'), `annotations of the ${what}`);
  if (isIndexType(mediaType)) {
    if (own(object, 'layers') !== undefined) throw bad(what, 'has layers, which an index has not');
    const entries = asArray(own(object, 'manifests'), `manifests of the ${what}`, maxIndexEntries);
    const manifests = entries.map((entry, i) => parseDescriptor(entry, `entry ${i} of the ${what}`));
    return { kind: 'index', mediaType, manifests, annotations };
  }
  if (!isManifestType(mediaType)) throw bad(what, 'has a media type that is neither a manifest nor an index');
  if (own(object, 'manifests') !== undefined) throw bad(what, 'lists manifests, which only an index does');
  const layers = asArray(own(object, 'layers'), `layers of the ${what}`, maxLayers);
  return {
    kind: 'manifest',
    mediaType,
    config: parseDescriptor(own(object, 'config'), `config of the ${what}`),
    layers: layers.map((entry, i) => parseDescriptor(entry, `layer ${i} of the ${what}`)),
    annotations,
  };
}

/** An image config. Parts that are missing are empty: artifacts often have `{}` for a config. Throws `invalid-image`. */
export function parseImageConfig(bytes: Uint8Array): ImageConfig {
  const what = 'image config';
  const object = parseJson(bytes, what, maxConfigBytes);
  const text = (key: string): string => {
    const value = own(object, key);
    return value === undefined ? '' : asString(value, `${key} of the ${what}`);
  };
  const inner = own(object, 'config');
  const rootfs = own(object, 'rootfs');
  const diffIds =
    rootfs === undefined || rootfs === null ? undefined : own(asObject(rootfs, 'rootfs'), 'diff_ids');
  return {
    os: text('os'),
    architecture: text('architecture'),
    labels:
      inner === undefined || inner === null
        ? new Map()
        : asStringMap(own(asObject(inner, `config of the ${what}`), 'Labels'), `labels of the ${what}`),
    diffIds:
      diffIds === undefined || diffIds === null
        ? []
        : asArray(diffIds, `diff_ids of the ${what}`, maxLayers).map((id) => asString(id, 'a diff_id')),
  };
}

/**
 * What a document without a trustworthy media type is: its own word, else its shape. For registries that answer with
 * `application/json` and layouts whose tools left it out. Throws `invalid-image`.
 */
export function sniffManifestType(bytes: Uint8Array): string {
  const object = parseJson(bytes, 'image manifest', maxImageManifestBytes);
  const stated = own(object, 'mediaType');
  if (typeof stated === 'string' && (isIndexType(stated) || isManifestType(stated))) return stated;
  if (Array.isArray(own(object, 'manifests'))) return mediaTypes.index;
  if (Array.isArray(own(object, 'layers'))) return mediaTypes.manifest;
  throw bad('image manifest', 'has neither layers nor manifests');
}
