import type { Logger } from '../telemetry/log.ts';
import type { Bundle } from '../workload/bundle.ts';
import { Cgroup, findHierarchies } from '../workload/cgroup.ts';
import { cgroupPathOf } from '../workload/cgroup-path.ts';
import { type ContainerdSite, findLinuxShim, LinuxShim } from '../workload/linux-shim.ts';
import { systemdRuns } from '../workload/systemd-scope.ts';
import type { LinuxEvents } from './linux-events.ts';
import { LinuxGroups } from './linux-group.ts';
import { createOptions, runcOptionsOf, startInput } from './linux-options.ts';
import { LinuxTask, type LinuxTaskOptions } from './linux-task.ts';
import type { CreateRequest } from './messages.ts';
import { parseRuntimeOptions } from './options.ts';

export type LinuxCreation = Pick<LinuxTaskOptions, 'onLost' | 'onDeleted'> & {
  readonly request: CreateRequest;
  readonly bundle: Bundle;
  /** Standard input of our own `start`. */
  readonly startBytes: Buffer;
  readonly log: Logger;
  /** Gives up creating it. */
  readonly signal: AbortSignal;
};

/** Makes the tasks of Linux containers. */
export class LinuxTasks {
  readonly #site: ContainerdSite;
  readonly #events: LinuxEvents;
  readonly #groups = new LinuxGroups();

  /** `site`: its ttrpc address is where the Linux shims send their events, which come to `events` from there. */
  constructor(site: ContainerdSite, events: LinuxEvents) {
    this.#site = site;
    this.#events = events;
  }

  /** Creates a Linux container. Throws `not-found` if this node has no shim for it, and what that shim answers. */
  async create(creation: LinuxCreation): Promise<LinuxTask> {
    const { request, bundle, startBytes, log, signal, onLost, onDeleted } = creation;
    const { id } = request;
    const { namespace, ttrpcAddress } = this.#site;
    const shim = new LinuxShim(findLinuxShim(this.#site), this.#site, id, bundle.path);
    const isUnit = systemdRuns() && cgroupPathOf(bundle.spec.cgroupsPath, id).unit !== undefined;
    const options = runcOptionsOf(parseRuntimeOptions(startBytes, id, namespace), isUnit);
    const group = this.#groups.of(id, bundle.spec);
    const cgroup = new Cgroup(findHierarchies(), cgroupPathOf(bundle.spec.cgroupsPath, id));
    const deletionTold = this.#events.deletion(id);
    const created = LinuxTask.create(
      {
        namespace,
        request,
        shim,
        group,
        startInput: startInput(startBytes, { id, groupName: group.name, namespace, ttrpcAddress }, options),
        createOptions: createOptions(request.options, options),
        log,
        deletionTold,
        memoryKills: () => cgroup.memoryKills(),
        tellOutOfMemory: () => this.#events.outOfMemory(id, namespace),
        onLost,
        onDeleted: (...deletion) => {
          this.#events.forget(id);
          onDeleted(...deletion);
        },
      },
      signal,
    );
    created.catch(() => this.#events.forget(id));
    return created;
  }
}
