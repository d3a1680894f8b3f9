import type { BoundMethod } from '../ttrpc/service.ts';
import type { LinuxTask } from './linux-task.ts';
import { type TaskRequest, taskProto } from './messages.ts';

/** Every request of the task service begins with the task's id; what else it has is passed over. */
const requestCodec = taskProto.message<TaskRequest>('containerd.task.v2.TaskRequest');

/** Calls that are never relayed: one has no task yet, the other is about the shim and not about a task. */
const ownMethods: ReadonlySet<string> = new Set(['Create', 'Shutdown']);

/** The task service with the calls about Linux containers going where those run. */
export function relayLinuxTasks(
  methods: ReadonlyMap<string, BoundMethod>,
  find: (id: string) => LinuxTask | undefined,
): ReadonlyMap<string, BoundMethod> {
  const relayed = [...methods].map(([name, own]): [string, BoundMethod] => {
    if (ownMethods.has(name)) return [name, own];
    return [
      name,
      (payload, context) => {
        const task = findTask(payload, find);
        return task === undefined ? own(payload, context) : task.call(name, payload, context);
      },
    ];
  });
  return new Map(relayed);
}

/** A malformed request has no task: its own method says what is wrong with it. */
function findTask(payload: Buffer, find: (id: string) => LinuxTask | undefined): LinuxTask | undefined {
  try {
    return find(requestCodec.deserialize(payload).id);
  } catch {
    return undefined;
  }
}
