/** What the manual is made of, out of the command line's own sources: bundled and loaded by tables-of-options.mjs. */
export { SHELL_COMMANDS } from '../../host/cli/io/run-line.js';
export { SHELL_OPTIONS } from '../../host/cli/io/shell-options.js';
export { CREATE_OPTIONS } from '../../host/cli/options-help.js';
export { describeProgram } from '../../host/cli/program.js';
export { packageVersion } from '../../host/cli/version.js';
