import assert from 'node:assert/strict';
import { readdirSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { systemPageBytes } from '../../linux-memory.ts';
import { MappedImage, maxKeptPages, minMappedBytes } from './mapped-image.ts';
import { MemoryImage } from './memory-image.ts';

const wasmPage = 65_536;

/** A memory of that many pages of 64 KiB with something at its edges and in the middle, and long stretches of nothing. */
function filledMemory(pages: number): WebAssembly.Memory {
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 4 * pages });
  const bytes = Buffer.from(memory.buffer);
  bytes.fill('first', 0, 5000);
  bytes.fill('middle', Math.floor(bytes.length / 2) + 17, Math.floor(bytes.length / 2) + 200_017);
  bytes.write('last', bytes.length - 4);
  return memory;
}

function map(memory: WebAssembly.Memory): MappedImage {
  const image = MappedImage.make(MemoryImage.of(Buffer.from(memory.buffer)));
  assert.ok(image !== undefined, 'this system can map images');
  image.attach(memory);
  return image;
}

function restore(image: MappedImage, memory: WebAssembly.Memory): number {
  return image.restore(memory, new Uint8Array(memory.buffer));
}

/** Whether a memory is as it was, with nothing but zeros where it has grown. */
function assertRestored(memory: WebAssembly.Memory, original: Buffer): void {
  const now = Buffer.from(memory.buffer);
  assert.ok(now.subarray(0, original.length).equals(original));
  assert.ok(now.subarray(original.length).every((byte) => byte === 0));
}

test('a thousand rounds of canaries, with growth in between, leave nothing', () => {
  const memory = filledMemory(17);
  const original = Buffer.from(Buffer.from(memory.buffer));
  const image = map(memory);
  assertRestored(memory, original);
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return seed % below;
  };
  for (let round = 0; round < 1000; round += 1) {
    if (round % 100 === 50) memory.grow(2);
    const bytes = Buffer.from(memory.buffer);
    for (let canary = 0; canary < 20; canary += 1) bytes.writeUInt32LE(0xdeadbeef, random(bytes.length - 4));
    bytes[bytes.length - 1] = 0xff;
    const own = restore(image, memory);
    assert.ok(own >= systemPageBytes && own <= maxKeptPages * systemPageBytes);
    assert.equal(bytes.indexOf('efbeadde', 0, 'hex'), -1);
    if (round % 100 === 99) assertRestored(memory, original);
  }
  assertRestored(memory, original);
});

test('a memory whose every byte was written to is restored, and keeps no page of its own', () => {
  const memory = filledMemory(100);
  const original = Buffer.from(Buffer.from(memory.buffer));
  const image = map(memory);
  memory.grow(10);
  Buffer.from(memory.buffer).fill(0xaa);
  assert.equal(restore(image, memory), 0);
  assertRestored(memory, original);
  // Reading it all has made pages of zeros.
  restore(image, memory);
  Buffer.from(memory.buffer)[0] = 0;
  assert.equal(restore(image, memory), systemPageBytes);
  assertRestored(memory, original);
});

test('as many pages as may be kept are kept, one more and none is', () => {
  const memory = filledMemory(100);
  const original = Buffer.from(Buffer.from(memory.buffer));
  const image = map(memory);
  const dirty = (pages: number): void => {
    const bytes = Buffer.from(memory.buffer);
    for (let page = 0; page < pages; page += 1) bytes[page * systemPageBytes] = 1;
  };
  dirty(maxKeptPages);
  assert.equal(restore(image, memory), maxKeptPages * systemPageBytes);
  dirty(maxKeptPages + 1);
  assert.equal(restore(image, memory), 0);
  assertRestored(memory, original);
});

test('instances of one image see nothing of each other, whichever is restored when', () => {
  const [one, two] = [filledMemory(20), filledMemory(20)];
  const original = Buffer.from(Buffer.from(one.buffer));
  const image = map(one);
  assert.ok(image.matches(Buffer.from(two.buffer)));
  image.attach(two);
  Buffer.from(one.buffer).fill('1');
  assertRestored(two, original);
  Buffer.from(two.buffer).fill('2');
  restore(image, one);
  assertRestored(one, original);
  assert.ok(Buffer.from(two.buffer).every((byte) => byte === '2'.charCodeAt(0)));
  restore(image, two);
  assertRestored(two, original);
});

test('the file behind an image can be changed by nobody', () => {
  const before = new Set(imageFiles());
  const memory = filledMemory(20);
  map(memory);
  const [fd] = imageFiles().filter((each) => !before.has(each));
  assert.ok(fd !== undefined);
  assert.throws(() => writeSync(fd, 'x', 0), { code: 'EPERM' });
  const head = Buffer.alloc(5);
  readSync(fd, head, 0, 5, 0);
  assert.equal(head.toString(), 'first');
});

function imageFiles(): readonly number[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('/memfd:guest-image') ? [Number(fd)] : [];
    } catch {
      return [];
    }
  });
}

test('a memory that is too small for it to pay is not mapped', () => {
  const pages = minMappedBytes / wasmPage;
  const imageOf = (count: number): MappedImage | undefined =>
    MappedImage.make(MemoryImage.of(Buffer.from(filledMemory(count).buffer)));
  assert.equal(imageOf(pages - 1), undefined);
  assert.ok(imageOf(pages) !== undefined);
});
