import { type BoundMethod, method as bind, type Handler } from '../ttrpc/service.ts';
import { ProtoFile } from './proto-file.ts';

/** The task service's messages, field for field as in proto/task.proto (containerd.task.v2 and v3 alike). */

/** google.protobuf.Timestamp; `null` where it is left out. */
export type Timestamp = { readonly seconds: number; readonly nanos: number };

/** google.protobuf.Any. Field names keep their underscore: the decoder's special form of Any wants them so. */
export type AnyMessage = { readonly type_url: string; readonly value: Uint8Array };

export type Mount = {
  readonly type: string;
  readonly source: string;
  readonly target: string;
  readonly options: readonly string[];
};

export type TaskRequest = { readonly id: string };
export type ProcessRequest = { readonly id: string; readonly execId: string };
export type Empty = Record<string, never>;

/** containerd.v1.types.Status. */
export const taskStatus = { unknown: 0, created: 1, running: 2, stopped: 3, paused: 4, pausing: 5 } as const;
export type TaskStatus = (typeof taskStatus)[keyof typeof taskStatus];

export type StateResponse = {
  readonly id: string;
  readonly bundle: string;
  readonly pid: number;
  readonly status: TaskStatus;
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly terminal: boolean;
  readonly exitStatus: number;
  readonly exitedAt: Timestamp | null;
  readonly execId: string;
};

export type CreateRequest = {
  readonly id: string;
  readonly bundle: string;
  readonly rootfs: readonly Mount[];
  readonly terminal: boolean;
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly checkpoint: string;
  readonly parentCheckpoint: string;
  readonly options: AnyMessage | null;
};

export type PidResponse = { readonly pid: number };
export type ExitResponse = { readonly exitStatus: number; readonly exitedAt: Timestamp | null };
export type DeleteResponse = ExitResponse & { readonly pid: number };
export type PidsResponse = { readonly processes: readonly { readonly pid: number }[] };
export type CheckpointRequest = { readonly id: string; readonly path: string };
export type KillRequest = ProcessRequest & { readonly signal: number; readonly all: boolean };
export type ExecRequest = ProcessRequest & {
  readonly terminal: boolean;
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  /** JSON of an OCI Process. */
  readonly spec: AnyMessage | null;
};
export type ResizePtyRequest = ProcessRequest & { readonly width: number; readonly height: number };
export type CloseIoRequest = ProcessRequest & { readonly stdin: boolean };
export type UpdateRequest = { readonly id: string; readonly resources: AnyMessage | null };
export type StatsResponse = { readonly stats: AnyMessage };
export type ConnectResponse = {
  readonly shimPid: number;
  readonly taskPid: number;
  readonly version: string;
};
export type ShutdownRequest = { readonly id: string; readonly now: boolean };

/** Every method of the task service. */
export type TaskHandlers = {
  readonly State: Handler<ProcessRequest, StateResponse>;
  readonly Create: Handler<CreateRequest, PidResponse>;
  readonly Start: Handler<ProcessRequest, PidResponse>;
  readonly Delete: Handler<ProcessRequest, DeleteResponse>;
  readonly Pids: Handler<TaskRequest, PidsResponse>;
  readonly Pause: Handler<TaskRequest, Empty>;
  readonly Resume: Handler<TaskRequest, Empty>;
  readonly Checkpoint: Handler<CheckpointRequest, Empty>;
  readonly Kill: Handler<KillRequest, Empty>;
  readonly Exec: Handler<ExecRequest, Empty>;
  readonly ResizePty: Handler<ResizePtyRequest, Empty>;
  readonly CloseIO: Handler<CloseIoRequest, Empty>;
  readonly Update: Handler<UpdateRequest, Empty>;
  readonly Wait: Handler<ProcessRequest, ExitResponse>;
  readonly Stats: Handler<TaskRequest, StatsResponse>;
  readonly Connect: Handler<TaskRequest, ConnectResponse>;
  readonly Shutdown: Handler<ShutdownRequest, Empty>;
};

/** Both names of the task service; their messages are the same (containerd.md 2.4). */
export const taskServiceNames = ['containerd.task.v2.Task', 'containerd.task.v3.Task'] as const;

export const taskProto = new ProtoFile('task.proto');

/** Ties every handler to its codec. */
export function bindTaskService(handlers: TaskHandlers): ReadonlyMap<string, BoundMethod> {
  const bound = new Map<string, BoundMethod>();
  for (const [name, handler] of Object.entries(handlers)) {
    const codec = taskProto.method<unknown, unknown>(taskServiceNames[0], name);
    bound.set(name, bind(codec, handler as Handler<unknown, unknown>));
  }
  return bound;
}

/** A time as the wire has it. */
export function toTimestamp(time: Date): Timestamp {
  const milliseconds = time.getTime();
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanos: (milliseconds - seconds * 1000) * 1_000_000 };
}
