/** `corral completion`: the script by which a shell completes command lines. */

import { bashScript } from '../completion/bash.js';
import { completedProgram, plainProgram, SHELLS } from '../completion/completed-program.js';
import { fishScript } from '../completion/fish.js';
import { zshScript } from '../completion/zsh.js';
import { SHELL_OPTIONS } from '../io/shell-options.js';
import { UsageError } from '../output.js';
import { defineVerb, oneOperand } from '../verb.js';

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript };

export const completion = defineVerb({
  about:
    'Prints the script by which a shell completes the command lines of this program and of the test shell:\n' +
    '  bash:  eval "$(corral completion bash)" in ~/.bashrc\n' +
    '  zsh:   eval "$(corral completion zsh)" in ~/.zshrc, behind compinit\n' +
    '  fish:  corral completion fish > ~/.config/fish/completions/corral.fish',
  operands: 'SHELL',
  options: {},
  async run({ operands }, { terminal, describeProgram }) {
    const wanted = oneOperand(operands, `Expecting one shell: ${SHELLS.join(', ')}`);
    const shell = SHELLS.find((name) => name === wanted);
    if (shell === undefined) throw new UsageError(`Unknown shell '${wanted}' (known: ${SHELLS.join(', ')})`);
    const { options, verbs } = await describeProgram();
    const ioName = terminal.program === 'qemu-img' ? 'qemu-io' : 'corral-io';
    terminal.print(
      SCRIPTS[shell]([completedProgram(terminal.program, options, verbs), plainProgram(ioName, SHELL_OPTIONS)]),
    );
  },
});
