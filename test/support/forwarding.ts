import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The ptp plugin switches this on for the whole machine and never off. */
const setting = '/proc/sys/net/ipv4/ip_forward';
const memory = 'ip-forward';
const prefix = 'spinshim-test-';

/** Notes in an instance's folder what the setting was before any instance that is still there. */
export function rememberForwarding(folder: string): void {
  const wasOff = siblings(folder).some((other) => readFileSync(other, 'utf8') === '0');
  writeFileSync(join(folder, memory), wasOff ? '0' : readFileSync(setting, 'utf8').trim());
}

/** Switches forwarding off again if it was off and no other instance is left. */
export function restoreForwarding(folder: string): void {
  const own = join(folder, memory);
  if (!existsSync(own) || siblings(folder).length > 0) return;
  if (readFileSync(own, 'utf8') === '0') writeFileSync(setting, '0');
}

function siblings(folder: string): string[] {
  const parent = dirname(folder);
  return readdirSync(parent)
    .filter((name) => name.startsWith(prefix) && join(parent, name) !== folder)
    .map((name) => join(parent, name, memory))
    .filter((file) => existsSync(file));
}
