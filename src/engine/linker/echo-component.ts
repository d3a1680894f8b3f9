/** A type to be sent through a component: named parts, then the type itself, in WebAssembly text. */
export type EchoType = {
  readonly named?: readonly (readonly [name: string, definition: string])[];
  readonly type: string;
  /** Core types of the parameter, or `pointer` when it goes through memory. */
  readonly params: readonly string[] | 'pointer';
  /** Core type of the result, or `pointer` when it goes through memory. */
  readonly result: string;
};

/** A bump allocator that grows its memory. */
const allocator = `
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 1024))
  (func $realloc (export "cabi_realloc") (param $old i32) (param $olds i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536)))))))
    (local.get $at))`;

/** A component whose export \`g\` passes its argument on to the import \`f\` of \`test:a/host\` and returns the answer. */
export function echoComponent({ named = [], type, params, result }: EchoType): string {
  const flat = params === 'pointer' ? ['i32'] : params;
  const spilled = result === 'pointer';
  const signature = flat.map((core) => `(param ${core})`).join(' ');
  const args = flat.map((_core, index) => `(local.get ${index})`).join(' ');
  const declared = named
    .map(([name, text]) => `(type $${name}-d ${text}) (export "t-${name}" (type $${name} (eq $${name}-d)))`)
    .join('\n');
  const aliases = named.map(([name]) => `(alias export $host "t-${name}" (type $${name}))`).join('\n');
  // Named types are used by their name, all others are defined first.
  const defined = type.startsWith('$') ? '' : `(type $t ${type})`;
  const used = type.startsWith('$') ? type : '$t';
  return `(component
  (import "test:a/host" (instance $host
    ${declared}
    ${defined}
    (export "f" (func (param "x" ${used}) (result ${used})))))
  ${aliases}
  ${defined}
  (core module $memory ${allocator})
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $mem))
  (alias core export $m "cabi_realloc" (core func $realloc))
  (alias export $host "f" (func $host-f))
  (core func $f (canon lower (func $host-f) (memory $mem) (realloc $realloc)))
  (core module $main
    (import "m" "cabi_realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "h" "f" (func $f ${signature} ${spilled ? '(param i32)' : `(result ${result})`}))
    (func (export "g") ${signature} (result ${spilled ? 'i32' : result})
      ${
        spilled
          ? `(local $out i32)
      (local.set $out (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 512)))
      (call $f ${args} (local.get $out))
      (local.get $out)`
          : `(call $f ${args})`
      }))
  (core instance $h (export "f" (func $f)))
  (core instance $i (instantiate $main (with "m" (instance $m)) (with "h" (instance $h))))
  (alias core export $i "g" (core func $i-g))
  (func $g (param "x" ${used}) (result ${used})
    (canon lift (core func $i-g) (memory $mem) (realloc $realloc)))
  (export "g" (func $g)))`;
}
