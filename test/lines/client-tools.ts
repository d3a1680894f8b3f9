import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** A client of a node, or a suite of tests for one, built from the Go module proxy. */
export type ClientTool = {
  readonly name: string;
  readonly module: string;
  readonly version: string;
  /** Package in the module, and whether it is a program or a suite of tests that is compiled. */
  readonly source: string;
  readonly kind: 'program' | 'tests';
};

/** The tools at the releases they are used with; Go's checksum database vouches for them. */
export const clientTools: readonly ClientTool[] = [
  {
    name: 'nerdctl',
    module: 'github.com/containerd/nerdctl',
    version: 'v1.7.7',
    source: './cmd/nerdctl',
    kind: 'program',
  },
  {
    name: 'crictl',
    module: 'sigs.k8s.io/cri-tools',
    version: 'v1.34.0',
    source: './cmd/crictl',
    kind: 'program',
  },
  {
    name: 'critest',
    module: 'sigs.k8s.io/cri-tools',
    version: 'v1.34.0',
    source: './cmd/critest',
    kind: 'tests',
  },
];

/** `$XDG_CACHE_HOME/spinshim-test`: what is built for tests once, outside of the checkout. */
export function testCache(): string {
  const { XDG_CACHE_HOME: given } = process.env;
  return join(given === undefined || given === '' ? join(homedir(), '.cache') : given, 'spinshim-test');
}

/** Where a tool is or would be. */
export function toolPath({ name, version }: ClientTool): string {
  return join(testCache(), 'tools', `${name}-${version}`, name);
}

/** Absolute path of a tool that is built, else undefined. */
export function findTool(name: string): string | undefined {
  const tool = clientTools.find((candidate) => candidate.name === name);
  if (tool === undefined) return undefined;
  const path = toolPath(tool);
  return existsSync(path) ? path : undefined;
}
