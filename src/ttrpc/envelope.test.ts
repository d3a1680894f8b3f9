import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  decodeRequest,
  decodeResponse,
  encodeRequest,
  encodeResponse,
  maxRepeatedEntries,
  type RequestEnvelope,
  type ResponseEnvelope,
} from './envelope.ts';
import { encodeFrame, FrameParser, FrameType } from './frame.ts';
import { StatusCode, TtrpcError } from './status.ts';
import { encodeText, requestFrame, seededRandom, textRequest } from './test-peer.ts';

const namespaceKey = 'containerd-namespace-ttrpc';

/** Frames written by the Go library v1.2.7 as a client: stream id, what was called, the bytes on the socket. */
const goRequests: readonly (readonly [id: number, request: RequestEnvelope, hex: string])[] = [
  [
    1,
    textRequest('test.v1.Echo', 'Say', 'hello'),
    '0000001c0000000101000a0c746573742e76312e4563686f12035361791a070a0568656c6c6f',
  ],
  [3, textRequest('test.v1.Echo', 'Say'), '000000130000000301000a0c746573742e76312e4563686f1203536179'],
  [
    11,
    textRequest('test.v1.Echo', 'Metadata', namespaceKey, {
      metadata: new Map([[namespaceKey, ['k8s.io', 'two']]]),
    }),
    `0000007f0000000b01000a0c746573742e76312e4563686f12084d65746164617461` +
      `1a1c0a1a636f6e7461696e6572642d6e616d6573706163652d7474727063` +
      `2a240a1a636f6e7461696e6572642d6e616d6573706163652d747472706312066b38732e696f` +
      `2a210a1a636f6e7461696e6572642d6e616d6573706163652d7474727063120374776f`,
  ],
  [
    13,
    textRequest('test.v1.Echo', 'Deadline', '', { timeoutNano: 1_999_995_223n }),
    '0000001e0000000d01000a0c746573742e76312e4563686f1208446561646c696e6520d782d6b907',
  ],
];

const success = (text: string): ResponseEnvelope => ({ status: undefined, payload: encodeText(text) });
const failure = (code: number, message: string): ResponseEnvelope => ({
  status: { code, message, details: [] },
  payload: new Uint8Array(0),
});

/** Frames written by the Go library v1.2.7 as a server. */
const goResponses: readonly (readonly [id: number, response: ResponseEnvelope, hex: string])[] = [
  [1, success('hello'), '0000000900000001020012070a0568656c6c6f'],
  [3, success(''), '00000000000000030200'],
  [5, failure(5, 'no such thing'), '000000130000000502000a110805120d6e6f2073756368207468696e67'],
  [7, failure(12, 'method Nope'), '000000110000000702000a0f080c120b6d6574686f64204e6f7065'],
  [
    17,
    failure(4, 'context deadline exceeded'),
    '0000001f0000001102000a1d08041219636f6e7465787420646561646c696e65206578636565646564',
  ],
];

function onlyFrame(hex: string): { readonly streamId: number; readonly body: Buffer } {
  const [event, ...rest] = new FrameParser().push(Buffer.from(hex, 'hex'));
  assert.ok(event?.kind === 'frame' && rest.length === 0);
  return { streamId: event.header.streamId, body: event.body };
}

const plain = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('requests of the Go client are understood and written the same', () => {
  for (const [id, request, hex] of goRequests) {
    assert.equal(requestFrame(id, request).toString('hex'), hex);
    const { streamId, body } = onlyFrame(hex);
    const decoded = decodeRequest(body);
    assert.equal(streamId, id);
    assert.deepEqual(
      { ...decoded, payload: plain(decoded.payload) },
      { ...request, payload: plain(request.payload) },
    );
  }
});

test('replies of the Go server are understood and written the same', () => {
  for (const [id, response, hex] of goResponses) {
    assert.equal(encodeFrame(FrameType.Response, id, encodeResponse(response)).toString('hex'), hex);
    const { streamId, body } = onlyFrame(hex);
    const decoded = decodeResponse(body);
    assert.equal(streamId, id);
    assert.deepEqual(decoded.status, response.status);
    assert.equal(plain(decoded.payload), plain(response.payload));
  }
});

test('a budget of any int64 survives', () => {
  for (const timeoutNano of [1n, -1n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n)]) {
    const bytes = Buffer.from(encodeRequest(textRequest('s', 'm', '', { timeoutNano })));
    assert.equal(decodeRequest(bytes).timeoutNano, timeoutNano);
  }
});

test('fields that later versions may add are skipped', () => {
  // Field 99: the varint 1; field 6: eight bytes.
  const later = Buffer.from('98060132087375727072697365', 'hex');
  const request = Buffer.concat([encodeRequest(textRequest('s', 'm')), later]);
  assert.equal(decodeRequest(request).service, 's');
  const response = Buffer.concat([later, encodeResponse(success('x'))]);
  assert.equal(plain(decodeResponse(response).payload), plain(encodeText('x')));
});

test('status details are kept as they came', () => {
  const details = [Buffer.from('0a0161', 'hex'), Buffer.from('0a0162', 'hex')];
  const status = { code: 9, message: 'm', details };
  const decoded = decodeResponse(Buffer.from(encodeResponse({ status, payload: new Uint8Array(0) })));
  assert.deepEqual(decoded.status?.details.map(plain), details.map(plain));
});

test('metadata keys are lower case on the wire and when read, odd names included', () => {
  const metadata = new Map([
    ['TraceParent', ['1']],
    ['__proto__', ['2', '']],
  ]);
  const bytes = encodeRequest(textRequest('s', 'm', '', { metadata }));
  assert.ok(Buffer.from(bytes).includes('traceparent'));
  assert.deepEqual(
    [...decodeRequest(Buffer.from(bytes)).metadata],
    [
      ['traceparent', ['1']],
      ['__proto__', ['2', '']],
    ],
  );
});

test('text that is no Unicode is written as text that is', () => {
  const bytes = encodeResponse(failure(2, 'cut \ud83d'));
  assert.equal(decodeResponse(Buffer.from(bytes)).status?.message, 'cut \ufffd');
});

test('malformed envelopes are InvalidArgument', () => {
  const malformed = {
    'string longer than the envelope': '0aff01',
    'string cut short': '0a0561',
    'string that is not UTF-8': '0a02c328',
    'field number 0': '0001',
    'varint cut short': '20ffff',
    'varint without end': '20ffffffffffffffffffffff',
    'wire type 7': '0f',
    'group without end': '0b',
    'groups nested beyond reason': '0b'.repeat(5000),
    'metadata that is no message': '2a020aff',
  };
  for (const [what, hex] of Object.entries(malformed)) {
    assert.throws(
      () => decodeRequest(Buffer.from(hex, 'hex')),
      (error) => error instanceof TtrpcError && error.code === StatusCode.InvalidArgument,
      what,
    );
  }
});

test('repeated entries are limited', () => {
  const metadata = (entries: number): Buffer => Buffer.from('2a00'.repeat(entries), 'hex');
  assert.equal(decodeRequest(metadata(maxRepeatedEntries)).metadata.get('')?.length, maxRepeatedEntries);
  const isExhausted = (error: unknown): boolean =>
    error instanceof TtrpcError && error.code === StatusCode.ResourceExhausted;
  assert.throws(() => decodeRequest(metadata(maxRepeatedEntries + 1)), isExhausted);
  const details = (entries: number): Buffer => {
    const all = Array.from({ length: entries }, () => new Uint8Array(0));
    const status = { code: 1, message: '', details: all };
    return Buffer.from(encodeResponse({ status, payload: new Uint8Array(0) }));
  };
  assert.equal(decodeResponse(details(maxRepeatedEntries)).status?.details.length, maxRepeatedEntries);
  assert.throws(() => decodeResponse(details(maxRepeatedEntries + 1)), isExhausted);
});

test('random bytes, and good envelopes with a byte changed, give a message or a TtrpcError', () => {
  const random = seededRandom(42);
  const good = onlyFrame(goRequests[2]?.[2] ?? '').body;
  for (let round = 0; round < 20_000; round += 1) {
    const bytes = round % 2 === 0 ? random.bytes(random.below(40)) : Buffer.from(good);
    if (round % 2 === 1) bytes[random.below(bytes.length)] = random.below(256);
    for (const decode of [decodeRequest, decodeResponse]) {
      try {
        decode(bytes);
      } catch (error) {
        assert.ok(error instanceof TtrpcError, `${bytes.toString('hex')}: ${error}`);
      }
    }
  }
});
