/** What a verb of the command line is: its options, and what it does. */

import type { Context } from './context.js';
import { optionLines } from './description.js';
import type { CommandLine } from './option-parser.js';
import { flag, type OptionTable } from './option-table.js';
import { UsageError } from './output.js';

export interface Verb<Table extends OptionTable = OptionTable> {
  /** What the help says of it. */
  readonly about: string;
  /** Operands as the help shows them. */
  readonly operands: string;
  readonly options: Table;
  /** A minus and a digit are an operand: a size may be one. */
  readonly negativeSizes?: boolean;
  run(line: CommandLine<Table>, context: Context): Promise<void>;
}

/** Says that an object is a verb; the types of its options follow from the table. */
export function defineVerb<Table extends OptionTable>(verb: Verb<Table>): Verb<Table> {
  return verb;
}

/** Every verb has it. */
export const HELP = { help: flag('-h, --help', 'print this') } satisfies OptionTable;

/** The only operand, else QEMU's complaint. */
export function oneOperand(operands: readonly string[], complaint = 'Expecting one image file name'): string {
  const [operand] = operands;
  if (operand === undefined || operands.length !== 1) throw new UsageError(complaint);
  return operand;
}

/** The help of a verb. */
export function helpText(program: string, name: string, { about, operands, options }: Verb): string {
  const usage = `Usage: ${program} ${name} [OPTIONS]${operands === '' ? '' : ` ${operands}`}`;
  return `${usage}\n\n${about}\n\nOptions:\n${optionLines({ ...HELP, ...options })}`;
}
