import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InstanceScope } from '../scope.ts';
import { createVariables, maxVariableNameLength, type VariableSource } from './variables.ts';

function getter(source: VariableSource, scope = new InstanceScope()): (name: string) => Promise<string> {
  const interfaces = createVariables(source, 'api', scope);
  return (interfaces.get('fermyon:spin/variables@2.0.0') as { get(name: string): Promise<string> }).get;
}

const source: VariableSource = {
  get: async (component, name) => {
    switch (name) {
      case 'known':
        return { kind: 'value', value: `${component} value` };
      case 'Bad-name':
        return { kind: 'invalid-name', text: 'bad' };
      case 'down':
        return { kind: 'provider', text: 'vault is away' };
      case 'broken':
        throw new Error('broken');
      default:
        return { kind: 'undefined', text: `no variable for "${component}"."${name}"` };
    }
  },
};

describe('createVariables', () => {
  it('gives the value for its component', async () => {
    assert.equal(await getter(source)('known'), 'api value');
  });

  it('throws the error of the interface', async () => {
    const get = getter(source);
    const failure = (name: string): Promise<unknown> => get(name).catch((error: unknown) => error);
    assert.deepEqual(await failure('__proto__'), {
      tag: 'undefined',
      val: 'no variable for "api"."__proto__"',
    });
    assert.deepEqual(await failure('Bad-name'), { tag: 'invalid-name', val: 'bad' });
    assert.deepEqual(await failure('down'), { tag: 'provider', val: 'vault is away' });
    assert.deepEqual(await failure('broken'), { tag: 'other', val: 'broken' });
  });

  it('asks nobody for a name above the limit', async () => {
    const asked: string[] = [];
    const get = getter({
      get: async (_, name) => {
        asked.push(name);
        return { kind: 'value', value: '' };
      },
    });
    await get('x'.repeat(maxVariableNameLength));
    const error = await get('x'.repeat(maxVariableNameLength + 1)).catch((thrown: unknown) => thrown);
    assert.equal((error as { tag: string }).tag, 'invalid-name');
    assert.equal(asked.length, 1);
  });

  it('stops waiting when the scope ends', async () => {
    const scope = new InstanceScope();
    const pending = getter({ get: () => new Promise(() => {}) }, scope)('known');
    const reason = new Error('over');
    scope.end(reason);
    await assert.rejects(pending, (error) => error === reason);
    assert.equal(scope.pendingWaits, 0);
  });
});
