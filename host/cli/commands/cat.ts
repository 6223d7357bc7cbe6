/** `corral cat`: the bytes of a file on a disk, without mounting it. */

import { once } from 'node:events';
import { GUEST, lookInto } from '../guest-files.js';
import { OutputClosed, UsageError } from '../output.js';
import { defineVerb } from '../verb.js';

export const cat = defineVerb({
  about: 'Writes a file of a disk to standard output: ext2, ext3, ext4 and FAT, in the partition that is named.',
  operands: 'IMAGE[@SNAPSHOT][:PARTITION] PATH',
  options: { ...GUEST },
  async run({ values, operands }, { terminal }) {
    const [image, path, more] = operands;
    if (image === undefined || path === undefined || more !== undefined) {
      throw new UsageError('Expecting an image, and the path of a file in it');
    }
    const collector = { entry: async () => {}, data: writeOut };
    const job = (partition: number | undefined) => ({ kind: 'copy', partition, path, recursive: false }) as const;
    await lookInto(image, values, job, terminal, collector);
  },
});

/** As it is: whoever asks for a file's bytes gets them. Waits for a reader that is slower. */
async function writeOut(bytes: Uint8Array): Promise<void> {
  if (process.stdout.errored) throw new OutputClosed();
  if (process.stdout.write(bytes)) return;
  const closed = once(process.stdout, 'close').then(() => {
    throw new OutputClosed();
  });
  await Promise.race([once(process.stdout, 'drain'), closed]);
}
