/** `help`. */

import type { Command } from '../command.js';

/** One line about a command, by the name that the user has for it. */
export function aboutLine(command: Command, name = command.name): string {
  return `${name} ${command.usage}${command.usage === '' && command.name !== 'map' ? '' : ' '}-- ${command.about}\n`;
}

/** The command that tells about `commands` and itself. */
export function helpCommand(commands: readonly Command[]): Command {
  const help: Command = {
    name: 'help',
    short: '?',
    usage: '[command]',
    about: 'help for one or all commands',
    count: [0, 1],
    run: (session, { operands: [name] }) => {
      const all = [...commands, help].sort((first, second) => (first.name < second.name ? -1 : 1));
      if (name === undefined) {
        session.output.print(
          `${all.map((command) => aboutLine(command)).join('')}\nUse 'help commandname' for extended help.\n`,
        );
        return true;
      }
      const found = all.find((command) => command.name === name || command.short === name);
      if (found === undefined) session.output.print(`command ${name} not found\n`);
      else session.output.print(aboutLine(found, name) + (found.help === undefined ? '' : `\n${found.help}\n\n`));
      return found !== undefined;
    },
  };
  return help;
}
