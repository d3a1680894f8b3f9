/**
 * Sets a flag of V8's for all threads. Afterwards V8 takes no code that was made without it: neither what Node has of its own
 * modules, so that those which are loaded later are compiled, nor what is kept of guests. Nothing that can be set later is given to
 * a process on its command line, therefore.
 */
export function setV8Flag(flag: string): void {
  // Loaded here: most engines need none.
  process.getBuiltinModule('node:v8').setFlagsFromString(flag);
}
