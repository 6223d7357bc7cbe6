/** `corral cp`: files out of a disk, without mounting it. */

import { CopyOut } from '../copy-out.js';
import { GUEST, lookInto } from '../guest-files.js';
import { flag } from '../option-table.js';
import { UsageError } from '../output.js';
import { defineVerb } from '../verb.js';

export const cp = defineVerb({
  about:
    'Copies a file, or a directory with -r, out of a disk: ext2, ext3, ext4 and FAT, in the partition that is named.\n' +
    'TARGET is a folder, or a new name. Nothing is overwritten; links and devices within a directory are left out.',
  operands: 'IMAGE[@SNAPSHOT][:PARTITION] PATH TARGET',
  options: { ...GUEST, recursive: flag('-r, --recursive', 'directories with all that they hold') },
  async run({ values, operands }, { terminal }) {
    const [image, path, target, more] = operands;
    if (image === undefined || path === undefined || target === undefined || more !== undefined) {
      throw new UsageError('Expecting an image, a path in it, and where to copy it to');
    }
    const { recursive } = values;
    const copy = await CopyOut.to(target, path, terminal);
    try {
      const job = (partition: number | undefined) => ({ kind: 'copy', partition, path, recursive }) as const;
      await lookInto(image, values, job, terminal, copy);
      await copy.finish();
    } catch (error) {
      await copy.abandon();
      throw error;
    }
  },
});
