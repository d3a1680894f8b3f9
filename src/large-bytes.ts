/**
 * Memory of large pieces of bodies. V8 learns of a buffer that nobody needs any more when it next collects all of its heap,
 * and buffers of tens of megabytes make it do that again and again; whoever is the last to need one frees it at once.
 */

/** Bytes from which a buffer is worth freeing by hand. */
const minLargeBytes = 16 * 1024;

/** Buffers whose maker has handed them over and keeps no view of them. */
const handedOver = new WeakSet<ArrayBufferLike>();

function isLargeAndWhole({ buffer, byteLength }: Uint8Array): boolean {
  return byteLength >= minLargeBytes && byteLength === buffer.byteLength;
}

/** A copy of `length` bytes from `start` on, in a buffer of its own. The range has to lie within `bytes`. */
export function copyOfRange(bytes: Uint8Array, start: number, length: number): Uint8Array<ArrayBuffer> {
  if (length < minLargeBytes) return bytes.slice(start, start + length);
  // Not filled with zeroes first, which takes longer than the copy. Not from Node's pool, so that it can be freed.
  const copy = new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
  copy.set(bytes.subarray(start, start + length));
  return copy;
}

/** Says that whoever is given these bytes is the only one to have them: `freeHandedOver` frees them. */
export function handOver(bytes: Uint8Array): Uint8Array {
  if (isLargeAndWhole(bytes)) handedOver.add(bytes.buffer);
  return bytes;
}

/** Frees bytes that their maker has handed over, and leaves all others alone. To be called by the last to read them. */
export function freeHandedOver(bytes: Uint8Array): void {
  if (isLargeAndWhole(bytes) && handedOver.delete(bytes.buffer)) freeOwned(bytes);
}

/**
 * Frees bytes that the caller owns and nobody reads any more: every view of their buffer is empty afterwards. Small ones,
 * and those that are part of a larger buffer, are left to the collector.
 */
export function freeOwned(bytes: Uint8Array): void {
  if (isLargeAndWhole(bytes) && bytes.buffer instanceof ArrayBuffer) bytes.buffer.transfer(0);
}
