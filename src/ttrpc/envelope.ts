/**
 * The envelopes inside frames, coded by hand over protobufjs' reader and writer:
 *
 *   Request  { string service = 1; string method = 2; bytes payload = 3; int64 timeout_nano = 4;
 *              repeated KeyValue metadata = 5 }
 *   KeyValue { string key = 1; string value = 2 }
 *   Response { google.rpc.Status status = 1; bytes payload = 2 }
 *   Status   { int32 code = 1; string message = 2; repeated google.protobuf.Any details = 3 }
 */
import { isUtf8 } from 'node:buffer';
import type { Reader } from 'protobufjs/minimal.js';
import protobuf from 'protobufjs/minimal.js';
import { StatusCode, TtrpcError } from './status.ts';

/** Metadata of a call: lower-case key → values in order. */
export type Metadata = ReadonlyMap<string, readonly string[]>;

/** A request as it travels. `timeoutNano` is a budget from now in nanoseconds; 0 means none. */
export type RequestEnvelope = {
  readonly service: string;
  readonly method: string;
  readonly payload: Uint8Array;
  readonly timeoutNano: bigint;
  readonly metadata: Metadata;
};

/** A status as it travels; `details` are encoded Any messages. */
export type StatusEnvelope = {
  readonly code: number;
  readonly message: string;
  readonly details: readonly Uint8Array[];
};

/** A reply as it travels. Without a status it is a success. */
export type ResponseEnvelope = {
  readonly status: StatusEnvelope | undefined;
  readonly payload: Uint8Array;
};

/** Most metadata pairs taken in a request, and most details in a status: two bytes on the wire cost far more in memory. */
export const maxRepeatedEntries = 1024;

/** Tag of a field: its number and its wire type. */
const varint = 0;
const delimited = 2;
const tag = (field: number, wireType: number): number => (field << 3) | wireType;

/** Encodes a request; empty fields are left out, as proto3 does. */
export function encodeRequest(request: RequestEnvelope): Uint8Array {
  const writer = protobuf.Writer.create();
  if (request.service !== '') writer.uint32(tag(1, delimited)).string(request.service.toWellFormed());
  if (request.method !== '') writer.uint32(tag(2, delimited)).string(request.method.toWellFormed());
  if (request.payload.length > 0) writer.uint32(tag(3, delimited)).bytes(request.payload);
  // As text, since a number is exact only up to 2^53.
  if (request.timeoutNano !== 0n) writer.uint32(tag(4, varint)).int64(request.timeoutNano.toString());
  for (const [key, values] of request.metadata) {
    for (const value of values) {
      writer.uint32(tag(5, delimited)).fork();
      if (key !== '') writer.uint32(tag(1, delimited)).string(key.toLowerCase().toWellFormed());
      if (value !== '') writer.uint32(tag(2, delimited)).string(value.toWellFormed());
      writer.ldelim();
    }
  }
  return writer.finish();
}

/**
 * Decodes a request.
 *
 * @throws TtrpcError InvalidArgument if the bytes are no Request, ResourceExhausted above {@link maxRepeatedEntries}
 */
export function decodeRequest(bytes: Buffer): RequestEnvelope {
  let service = '';
  let method = '';
  let payload: Uint8Array = Buffer.alloc(0);
  let timeoutNano = 0n;
  let entries = 0;
  const metadata = new Map<string, string[]>();
  readFields('request', bytes, (fieldTag, reader) => {
    switch (fieldTag) {
      case tag(1, delimited):
        service = readString(reader);
        return true;
      case tag(2, delimited):
        method = readString(reader);
        return true;
      case tag(3, delimited):
        payload = reader.bytes();
        return true;
      case tag(4, varint):
        timeoutNano = BigInt(reader.int64().toString());
        return true;
      case tag(5, delimited): {
        entries = countEntry('request metadata', entries);
        const [key, value] = decodeKeyValue(reader.bytes());
        const values = metadata.get(key);
        if (values === undefined) metadata.set(key, [value]);
        else values.push(value);
        return true;
      }
      default:
        return false;
    }
  });
  return { service, method, payload, timeoutNano, metadata };
}

function decodeKeyValue(bytes: Uint8Array): readonly [key: string, value: string] {
  let key = '';
  let value = '';
  readFields('metadata', bytes, (fieldTag, reader) => {
    switch (fieldTag) {
      case tag(1, delimited):
        key = readString(reader).toLowerCase();
        return true;
      case tag(2, delimited):
        value = readString(reader);
        return true;
      default:
        return false;
    }
  });
  return [key, value];
}

/** Encodes a reply. */
export function encodeResponse(response: ResponseEnvelope): Uint8Array {
  const writer = protobuf.Writer.create();
  const { status, payload } = response;
  if (status !== undefined) {
    writer.uint32(tag(1, delimited)).fork();
    if (status.code !== 0) writer.uint32(tag(1, varint)).int32(status.code);
    if (status.message !== '') writer.uint32(tag(2, delimited)).string(status.message.toWellFormed());
    for (const detail of status.details) writer.uint32(tag(3, delimited)).bytes(detail);
    writer.ldelim();
  }
  if (payload.length > 0) writer.uint32(tag(2, delimited)).bytes(payload);
  return writer.finish();
}

/**
 * Decodes a reply.
 *
 * @throws TtrpcError InvalidArgument if the bytes are no Response, ResourceExhausted above {@link maxRepeatedEntries}
 */
export function decodeResponse(bytes: Buffer): ResponseEnvelope {
  let status: StatusEnvelope | undefined;
  let payload: Uint8Array = Buffer.alloc(0);
  readFields('response', bytes, (fieldTag, reader) => {
    switch (fieldTag) {
      case tag(1, delimited):
        status = decodeStatus(reader.bytes());
        return true;
      case tag(2, delimited):
        payload = reader.bytes();
        return true;
      default:
        return false;
    }
  });
  return { status, payload };
}

function decodeStatus(bytes: Uint8Array): StatusEnvelope {
  let code = 0;
  let message = '';
  const details: Uint8Array[] = [];
  readFields('status', bytes, (fieldTag, reader) => {
    switch (fieldTag) {
      case tag(1, varint):
        code = reader.int32();
        return true;
      case tag(2, delimited):
        message = readString(reader);
        return true;
      case tag(3, delimited):
        countEntry('status details', details.length);
        details.push(reader.bytes());
        return true;
      default:
        return false;
    }
  });
  return { code, message, details };
}

/** Walks the fields of a message; `take` reads a field it knows and says so, any other is skipped. */
function readFields(
  what: string,
  bytes: Uint8Array,
  take: (fieldTag: number, reader: Reader) => boolean,
): void {
  const reader = protobuf.Reader.create(bytes);
  try {
    while (reader.pos < reader.len) {
      const fieldTag = reader.uint32();
      if (fieldTag >>> 3 === 0) throw new RangeError('field number 0');
      if (!take(fieldTag, reader)) reader.skipType(fieldTag & 7);
    }
    // The reader clamps some varints cut at the end instead of complaining.
    if (reader.pos !== reader.len) throw new RangeError('cut short');
  } catch (thrown) {
    if (thrown instanceof TtrpcError) throw thrown;
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    throw new TtrpcError(StatusCode.InvalidArgument, `malformed ttrpc ${what} envelope: ${why}`, {
      cause: thrown,
    });
  }
}

/** Reads a string; the reader's own `string` neither refuses a cut one nor checks UTF-8. */
function readString(reader: Reader): string {
  const bytes = reader.bytes();
  if (!isUtf8(bytes)) throw new RangeError('a string is not UTF-8');
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}

function countEntry(what: string, seen: number): number {
  if (seen < maxRepeatedEntries) return seen + 1;
  throw new TtrpcError(
    StatusCode.ResourceExhausted,
    `ttrpc ${what} has more than ${maxRepeatedEntries} entries: send fewer`,
  );
}
