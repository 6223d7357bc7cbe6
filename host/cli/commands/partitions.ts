/** `corral partitions`: what a disk is divided into, and what the parts hold. */

import type { PartitionReport } from '../../node/sandbox-filesystem.js';
import { OUTPUT } from '../common-options.js';
import { GUEST, lookInto } from '../guest-files.js';
import { escapeText, formatJson, humanSize, type Json } from '../output.js';
import { defineVerb, oneOperand } from '../verb.js';

export const partitions = defineVerb({
  about: 'Prints the partitions of a disk, and the file systems that they hold. Nothing is mounted.',
  operands: 'IMAGE[@SNAPSHOT]',
  options: { ...GUEST, ...OUTPUT },
  async run({ values, operands }, { terminal }) {
    const { table, partitions, faults } = await lookInto(
      oneOperand(operands),
      values,
      () => ({ kind: 'partitions' }),
      terminal,
    );
    if (values.output === 'json') {
      const listed = partitions.map((partition) => ({ ...partition }) as unknown as Json);
      terminal.print(`${formatJson({ table, partitions: listed, faults })}\n`);
      return;
    }
    if (table === undefined) terminal.print('No partition table\n');
    const columns = ['Number', 'Start', 'Size', 'File system', 'Label', 'Name'];
    terminal.print([columns, ...partitions.map(columnsOf)].map(line).join(''));
    for (const fault of faults) terminal.note(`Note: the partition table makes no sense: ${fault}`);
  },
});

function columnsOf({ number, offset, length, fileSystem, label, name, isExtended }: PartitionReport): string[] {
  const what = isExtended ? 'extended' : (fileSystem ?? 'unknown');
  return [number === 0 ? 'disk' : `${number}`, `${offset}`, humanSize(length), what, label ?? '', name];
}

function line(columns: readonly string[]): string {
  const widths = [7, 14, 10, 12, 17];
  const padded = columns.map((text, index) => escapeText(text).padEnd(widths[index] ?? 0));
  return `${padded.join('').trimEnd()}\n`;
}
