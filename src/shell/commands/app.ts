import type { HttpTrigger } from '../../app/types.ts';
import { routeLines } from '../../triggers/http/route-lines.ts';
import { Router } from '../../triggers/http/router.ts';
import { hiddenValue } from '../app-access.ts';
import { type Command, CommandFailure, table, takeOptions } from '../command.ts';
import { FileView } from '../file-view.ts';

const componentOption = ['-c', '--component'];

/** The component that `-c` names, if any. */
export function componentOf(options: ReadonlyMap<string, readonly string[]>): string | undefined {
  return (options.get('-c') ?? options.get('--component'))?.at(-1);
}

/** What the app is and what it was given: `env`, `ls`, `cat`, `vars`, `routes`. */
export const appCommands: ReadonlyMap<string, Command> = new Map<string, Command>([
  [
    'env',
    {
      usage: '[-c COMPONENT] [NAME…]',
      summary: "the container's environment, or that of a component's guests",
      run: async ({ args, app, stdout, variables }) => {
        const { rest, options } = takeOptions(args, [], componentOption);
        const id = componentOf(options);
        const environment = new Map(
          id === undefined ? variables : app.components(id).flatMap((component) => component.environment),
        );
        if (rest.some((name) => name.includes('='))) {
          throw CommandFailure.usage('"env NAME=VALUE COMMAND" is not supported: write "NAME=VALUE COMMAND"');
        }
        for (const [name, value] of environment) {
          if (rest.length === 0) await stdout.write(`${name}=${value}\n`);
          else if (rest.includes(name)) await stdout.write(`${value}\n`);
        }
        return rest.every((name) => environment.has(name)) ? 0 : 1;
      },
    },
  ],
  [
    'ls',
    {
      usage: '[-c COMPONENT] [-l] [PATH…]',
      summary: 'files as the guests of a component see them',
      run: async ({ args, app, stdout, stderr }) => {
        const { rest, options } = takeOptions(args, ['-l', '-a', '-1', '-h'], componentOption);
        let exitCode = 0;
        for (const path of rest.length === 0 ? ['/'] : rest) {
          const found = app
            .components(componentOf(options))
            .map((component) => ({ id: component.id, entries: new FileView(component).list(path) }))
            .filter(({ entries }) => entries !== undefined);
          if (found.length === 0) {
            // The root is always there, if empty.
            if (path === '/') continue;
            await stderr.write(`ls: "${path}" is not there\n`);
            exitCode = 1;
          }
          for (const { id, entries = [] } of found) {
            if (found.length > 1 || rest.length > 1) await stdout.write(`${id}:${path}:\n`);
            if (!options.has('-l')) {
              for (const { name } of entries) await stdout.write(`${name}\n`);
              continue;
            }
            const rows = entries.map(({ name, kind, size, modified, target }) => [
              kind,
              String(size),
              modified.toISOString().slice(0, 19),
              target === undefined ? name : `${name} -> ${target}`,
            ]);
            await stdout.write(table(rows));
          }
        }
        return exitCode;
      },
    },
  ],
  [
    'cat',
    {
      usage: '[-c COMPONENT] FILE…',
      summary: 'print files as the guests of a component see them, or the input of a pipe',
      run: async ({ args, app, stdin, stdout, stderr }) => {
        const { rest, options } = takeOptions(args, [], componentOption);
        let exitCode = 0;
        if (rest.length === 0) for await (const chunk of stdin) await stdout.write(chunk);
        for (const path of rest) {
          const pieces = app
            .components(componentOf(options))
            .map((component) => new FileView(component).read(path))
            .find((found) => found !== undefined);
          if (pieces === undefined) {
            await stderr.write(`cat: "${path}" is not there\n`);
            exitCode = 1;
          } else for await (const piece of pieces) await stdout.write(piece);
        }
        return exitCode;
      },
    },
  ],
  [
    'vars',
    {
      usage: '[-c COMPONENT]',
      summary: 'variables as the components get them now; secrets are hidden',
      run: async ({ args, app, stdout }) => {
        const { options } = takeOptions(args, [], componentOption);
        const { variables } = await app.settings();
        const rows: (readonly string[])[] = [];
        for (const component of app.components(componentOf(options))) {
          for (const [name, template] of component.variables) {
            const answer = await variables.get(component.id, name);
            const shown = answer.kind === 'value' ? answer.value : `(${answer.text})`;
            rows.push([component.id, name, app.isSecret(template) ? hiddenValue : shown]);
          }
        }
        await stdout.write(
          rows.length === 0 ? 'no variables\n' : table([['COMPONENT', 'NAME', 'VALUE'], ...rows]),
        );
        return 0;
      },
    },
  ],
  [
    'routes',
    {
      usage: '',
      summary: 'where the app listens and which component answers what',
      run: async ({ app, engine, stdout }) => {
        const triggers = app.app.triggers.filter(
          (trigger): trigger is HttpTrigger => trigger.type === 'http',
        );
        const { routes, warnings } = new Router(triggers);
        const lines = routeLines(engine.address, routes, app.app.components).slice(1);
        await stdout.write([...lines, ...warnings].map((line) => `${line}\n`).join(''));
        return 0;
      },
    },
  ],
]);
