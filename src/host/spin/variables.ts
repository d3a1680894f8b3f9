import type { VariableResolver, VariableValue } from '../../app/variables.ts';
import type { InstanceScope, ScopeSource } from '../scope.ts';

/** Resolves a component's own variables; asked at every call, because a provider's value may change. */
export type VariableSource = Pick<VariableResolver, 'get'>;

/** `fermyon:spin/variables@2.0.0` `error`. */
export type VariableError = {
  readonly tag: 'invalid-name' | 'undefined' | 'provider' | 'other';
  readonly val: string;
};

/** The longest variable name that is looked up, in UTF-16 units; a longer one is `invalid-name`. */
export const maxVariableNameLength = 1024;

function variableError(tag: VariableError['tag'], val: string): VariableError {
  return { tag, val };
}

async function getVariable(
  resolver: VariableSource,
  componentId: string,
  name: string,
  scope: InstanceScope,
): Promise<string> {
  if (name.length > maxVariableNameLength) {
    throw variableError(
      'invalid-name',
      `the name is ${name.length} characters long, the limit is ${maxVariableNameLength}`,
    );
  }
  let answer: VariableValue;
  try {
    answer = await scope.settle(resolver.get(componentId, name));
  } catch (error) {
    if (scope.ended !== undefined) throw scope.ended;
    throw variableError('other', error instanceof Error ? error.message : 'the variable cannot be resolved');
  }
  switch (answer.kind) {
    case 'value':
      return answer.value;
    case 'undefined':
      throw variableError('undefined', answer.text);
    case 'invalid-name':
      throw variableError('invalid-name', answer.text);
    case 'provider':
      throw variableError('provider', answer.text);
    default:
      return answer satisfies never;
  }
}

/** `fermyon:spin/variables@2.0.0` of one instance (reference/spin.md section 4.3). */
export function createVariables(
  resolver: VariableSource,
  componentId: string,
  source: ScopeSource,
): ReadonlyMap<string, object> {
  return new Map<string, object>([
    [
      'fermyon:spin/variables@2.0.0',
      { get: (name: string) => getVariable(resolver, componentId, name, source.scope) },
    ],
  ]);
}

/** Functions that may wait, as jco's `asyncImports` names them. */
export const variablesAsyncImports: readonly string[] = ['fermyon:spin/variables@2.0.0#get'];
