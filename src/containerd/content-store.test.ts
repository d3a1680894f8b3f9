import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { imageOfContainer } from './containers.ts';
import { ContainerdBlobs } from './content-store.ts';
import { GrpcConnection } from './grpc.ts';
import { ProtoFile } from './proto-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'spinshim-content-'));
const socket = join(folder, 'c.sock');
const server = new Server();
const digest = `sha256:${'a'.repeat(64)}`;
const target = { mediaType: 'application/vnd.oci.image.index.v1+json', digest, size: 11 };

/** containerd's end: one image, one blob in two messages, containers with and without an image. */
before(async () => {
  const definition = (file: string, name: string): ServiceDefinition =>
    new ProtoFile(file).service(name) as unknown as ServiceDefinition;
  server.addService(definition('images.proto', 'containerd.services.images.v1.Images'), {
    Get: (call: ServerUnaryCall<{ name: string }, unknown>, callback: sendUnaryData<unknown>) => {
      assert.deepEqual(call.metadata.get('containerd-namespace'), ['k8s.io']);
      if (call.request.name === 'app:1') callback(null, { image: { name: 'app:1', target } });
      else callback({ code: status.NOT_FOUND, details: `image "${call.request.name}": not found` });
    },
  });
  server.addService(definition('content.proto', 'containerd.services.content.v1.Content'), {
    Read: (call: ServerWritableStream<{ digest: string }, unknown>) => {
      assert.equal(call.request.digest, digest);
      call.write({ offset: 0, data: Buffer.from('hello ') });
      call.write({ offset: 6, data: Buffer.from('world') });
      call.end();
    },
  });
  server.addService(definition('containers.proto', 'containerd.services.containers.v1.Containers'), {
    Get: (call: ServerUnaryCall<{ id: string }, unknown>, callback: sendUnaryData<unknown>) => {
      const { id } = call.request;
      callback(null, { container: { id, image: id === 'with' ? 'app:1' : '', labels: { a: 'b' } } });
    },
  });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
});
after(() => {
  server.forceShutdown();
  rmSync(folder, { recursive: true });
});

test('an image name is resolved to its target and read as a stream', async () => {
  const blobs = new ContainerdBlobs(`unix://${socket}`, 'k8s.io');
  const descriptor = await blobs.resolve('app:1');
  assert.deepEqual(descriptor, target);
  const chunks: Uint8Array[] = [];
  for await (const chunk of blobs.read(descriptor)) chunks.push(chunk);
  assert.equal(Buffer.concat(chunks).toString(), 'hello world');
  blobs.close();
});

test("an unknown image is not-found with containerd's words", async () => {
  const blobs = new ContainerdBlobs(socket, 'k8s.io');
  await assert.rejects(blobs.resolve('other:1'), {
    code: 'not-found',
    message: /image "other:1": not found/,
  });
  blobs.close();
});

test('reading may be left early', async () => {
  const blobs = new ContainerdBlobs(socket, 'k8s.io');
  for await (const chunk of blobs.read(target)) {
    assert.equal(Buffer.from(chunk).toString(), 'hello ');
    break;
  }
  blobs.close();
});

test('a container leads to its image', async () => {
  const connection = new GrpcConnection(socket, 'k8s.io');
  assert.deepEqual(await imageOfContainer(connection, 'with'), { name: 'app:1', digest });
  assert.equal(await imageOfContainer(connection, 'without'), undefined);
  connection.close();
});

test('a containerd that is not there is unavailable', async () => {
  const connection = new GrpcConnection(join(folder, 'none.sock'), 'k8s.io');
  await assert.rejects(imageOfContainer(connection, 'with'), { code: 'unavailable' });
  connection.close();
});
