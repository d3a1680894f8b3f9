import { ShimError } from '../error.ts';
import { nearestKey, quoted } from './manifest-key.ts';
import {
  parseTemplate,
  renderTemplate,
  type Template,
  templateVariables,
  variableNameProblem,
} from './template.ts';
import type { App, AppVariable } from './types.ts';
import type { VariableProvider } from './variables-provider.ts';

/** What a component gets for a variable name. Texts hold names, never values. */
export type VariableValue =
  | { readonly kind: 'value'; readonly value: string }
  | { readonly kind: 'undefined'; readonly text: string }
  | { readonly kind: 'invalid-name'; readonly text: string }
  | { readonly kind: 'provider'; readonly text: string };

type ComponentTemplates = ReadonlyMap<string, Template>;

/** Answers for the variables of an application; every answer asks the providers anew. */
export class VariableResolver {
  readonly #variables: ReadonlyMap<string, AppVariable>;
  readonly #components: ReadonlyMap<string, ComponentTemplates>;
  readonly #providers: readonly VariableProvider[];

  constructor(
    variables: ReadonlyMap<string, AppVariable>,
    components: ReadonlyMap<string, ComponentTemplates>,
    providers: readonly VariableProvider[],
  ) {
    this.#variables = variables;
    this.#components = components;
    this.#providers = providers;
  }

  /** One variable of a component, its template rendered. Never rejects. */
  async get(component: string, name: string): Promise<VariableValue> {
    const problem = variableNameProblem(name);
    if (problem !== undefined) return { kind: 'invalid-name', text: `${quoted(name)} ${problem}` };
    const template = this.#components.get(component)?.get(name);
    if (template === undefined) {
      return {
        kind: 'undefined',
        text: `no variable for ${JSON.stringify(component)}.${JSON.stringify(name)}`,
      };
    }
    try {
      return { kind: 'value', value: await this.#render(template) };
    } catch (thrown) {
      return { kind: 'provider', text: ShimError.from(thrown).message };
    }
  }

  /** All variables of a component, sorted by name; the ones no provider can answer are left out. */
  async getAll(component: string): Promise<readonly (readonly [name: string, value: string])[]> {
    const names = [...(this.#components.get(component)?.keys() ?? [])].toSorted();
    const values = await Promise.all(
      names.map(async (name) => [name, await this.get(component, name)] as const),
    );
    return values.flatMap(([name, answer]) =>
      answer.kind === 'value' ? [[name, answer.value] as const] : [],
    );
  }

  /** Renders a template of a trigger's table. Rejects for unknown variables and failing providers. */
  async render(text: string): Promise<string> {
    return this.#render(parseTemplate(text));
  }

  /** The present values of the named application variables, for `renderAllowedHosts`. */
  async values(names: Iterable<string>): Promise<ReadonlyMap<string, string>> {
    const entries = [...new Set(names)].map(async (name) => [name, await this.#resolve(name)] as const);
    return new Map(await Promise.all(entries));
  }

  async #render(template: Template): Promise<string> {
    const values = await this.values(templateVariables(template));
    return renderTemplate(template, (name) => values.get(name) ?? '');
  }

  async #resolve(name: string): Promise<string> {
    const variable = this.#variables.get(name);
    if (variable === undefined) throw unknownVariable('a template', name, this.#variables);
    const value = (await askProviders(this.#providers, name)) ?? variable.default;
    if (value !== undefined) return value;
    throw new ShimError('failed-precondition', `no provider resolved required variable ${quoted(name)}`);
  }
}

async function askProviders(
  providers: readonly VariableProvider[],
  name: string,
): Promise<string | undefined> {
  for (const provider of providers) {
    const value = await provider.get(name);
    if (value !== undefined) return value;
  }
  return undefined;
}

function unknownVariable(
  where: string,
  name: string,
  variables: ReadonlyMap<string, AppVariable>,
): ShimError {
  const nearest = nearestKey(name, [...variables.keys()]);
  const hint = nearest === undefined ? 'declare it in [variables]' : `did you mean "${nearest}"?`;
  return new ShimError('invalid-manifest', `${where} refers to unknown variable ${quoted(name)}; ${hint}`);
}

/**
 * Makes the resolver of an application and checks what can be checked at start: every template (component variables
 * and allowed hosts) refers to variables that exist, and every required variable has a value now.
 */
export async function resolveVariables(
  app: Pick<App, 'variables' | 'components'>,
  providers: readonly VariableProvider[],
): Promise<VariableResolver> {
  const variables = new Map(app.variables.map((variable) => [variable.name, variable]));
  const components = new Map<string, ComponentTemplates>();
  for (const component of app.components) {
    const templates = new Map<string, Template>();
    for (const [name, text] of component.variables) templates.set(name, parseTemplate(text));
    components.set(component.id, templates);
    const where = `component ${quoted(component.id)}`;
    for (const [name, template] of templates) {
      checkKnown(`${where}: variable ${quoted(name)}`, template, variables);
    }
    for (const entry of component.allowedOutboundHosts) {
      checkKnown(
        `${where}: "allowed_outbound_hosts" entry ${quoted(entry)}`,
        parseTemplate(entry),
        variables,
      );
    }
  }
  await checkRequired(app.variables, providers);
  return new VariableResolver(variables, components, providers);
}

function checkKnown(where: string, template: Template, variables: ReadonlyMap<string, AppVariable>): void {
  const unknown = templateVariables(template).find((name) => !variables.has(name));
  if (unknown !== undefined) throw unknownVariable(where, unknown, variables);
}

async function checkRequired(
  variables: readonly AppVariable[],
  providers: readonly VariableProvider[],
): Promise<void> {
  const missing: string[] = [];
  for (const variable of variables) {
    if (variable.default !== undefined) continue;
    if ((await askProviders(providers, variable.name)) === undefined) missing.push(variable.name);
  }
  if (missing.length === 0) return;
  const [first = ''] = missing;
  throw new ShimError(
    'failed-precondition',
    `no provider resolved required variable(s): ${missing.join(', ')}; set SPIN_VARIABLE_${first.toUpperCase()} and so on, or give them a default`,
  );
}
