import type { AnyMessage, Mount, Timestamp } from './messages.ts';
import { ProtoFile } from './proto-file.ts';

/** Longest that the end of a task is kept back until containerd has heard of its want of memory, milliseconds. */
export const outOfMemoryToldMs = 2_000;

/** The events of a task, by their message's name in containerd.events (containerd.md 3.4). */
export type TaskEvents = {
  readonly TaskCreate: {
    readonly containerId: string;
    readonly bundle: string;
    readonly rootfs: readonly Mount[];
    readonly io: {
      readonly stdin: string;
      readonly stdout: string;
      readonly stderr: string;
      readonly terminal: boolean;
    };
    readonly pid: number;
  };
  readonly TaskStart: { readonly containerId: string; readonly pid: number };
  readonly TaskExit: {
    readonly containerId: string;
    readonly id: string;
    readonly pid: number;
    readonly exitStatus: number;
    readonly exitedAt: Timestamp;
  };
  readonly TaskDelete: {
    readonly containerId: string;
    readonly id: string;
    readonly pid: number;
    readonly exitStatus: number;
    readonly exitedAt: Timestamp;
  };
  readonly TaskOOM: { readonly containerId: string };
  readonly TaskPaused: { readonly containerId: string };
  readonly TaskResumed: { readonly containerId: string };
  readonly TaskExecAdded: { readonly containerId: string; readonly execId: string };
  readonly TaskExecStarted: { readonly containerId: string; readonly execId: string; readonly pid: number };
};

const topics: { readonly [name in keyof TaskEvents]: string } = {
  TaskCreate: '/tasks/create',
  TaskStart: '/tasks/start',
  TaskExit: '/tasks/exit',
  TaskDelete: '/tasks/delete',
  TaskOOM: '/tasks/oom',
  TaskPaused: '/tasks/paused',
  TaskResumed: '/tasks/resumed',
  TaskExecAdded: '/tasks/exec-added',
  TaskExecStarted: '/tasks/exec-started',
};

const file = new ProtoFile('events.proto');

/** An event as it travels. The type's name stands alone: containerd 1.6 knows it only without a prefix. */
export function encodeTaskEvent<Name extends keyof TaskEvents>(
  name: Name,
  event: TaskEvents[Name],
): { readonly topic: string; readonly event: AnyMessage } {
  const typeName = `containerd.events.${name}`;
  return {
    topic: topics[name],
    event: { type_url: typeName, value: file.message<TaskEvents[Name]>(typeName).serialize(event) },
  };
}
