/** `corral checksum`: a hash of what a disk holds, whatever its format: that of a raw file with the same bytes. */

import { createHash } from 'node:crypto';
import { Closers } from '../closers.js';
import { FORCE_SHARE, IMAGE, NO_BACKING, PROGRESS } from '../common-options.js';
import { openDisk } from '../disk.js';
import { value } from '../option-table.js';
import { CommandError, escapeText, reasonOf } from '../output.js';
import { showProgress } from '../progress.js';
import { stopSignal } from '../signals.js';
import { snapshotArgument } from '../snapshot-argument.js';
import { defineVerb, oneOperand } from '../verb.js';

const ALGORITHMS = ['sha256', 'sha512', 'sha1', 'md5'];
const PIECE_LENGTH = 2 * 1024 * 1024;

export const checksum = defineVerb({
  about:
    "Prints a hash of the bytes that a disk holds, as sha256sum prints that of a raw file. The image's format, its backing\n" +
    'files and compression make no difference.',
  operands: 'FILE',
  options: {
    algorithm: value('-a, --algorithm NAME', `${ALGORITHMS.join(', ')} (default: sha256)`, (given) => {
      if (ALGORITHMS.includes(given)) return given;
      throw new CommandError(`Unknown algorithm '${given}' (known: ${ALGORITHMS.join(', ')})`);
    }),
    ...IMAGE,
    snapshot: value('-l, --snapshot SNAPSHOT', 'of this internal snapshot', snapshotArgument),
    ...FORCE_SHARE,
    ...NO_BACKING,
    ...PROGRESS,
  },
  async run({ values, operands }, { terminal }) {
    const path = oneOperand(operands);
    await using opened = new Closers();
    const disk = opened.add(await openDisk(path, values));
    const hash = createHash(values.algorithm ?? 'sha256');
    const stop = stopSignal();
    const progress = showProgress(terminal, values.progress);
    const [buffer, zeroes] = [new Uint8Array(PIECE_LENGTH), new Uint8Array(PIECE_LENGTH)];
    try {
      for await (const { offset, length, kind } of disk.extents()) {
        for (let done = 0; done < length; done += PIECE_LENGTH) {
          const count = Math.min(PIECE_LENGTH, length - done);
          const isZero = kind === 'zero' || kind === 'unallocated';
          if (!isZero) await disk.read(offset + done, buffer.subarray(0, count));
          hash.update((isZero ? zeroes : buffer).subarray(0, count));
          progress.report(offset + done + count, disk.size);
          if (stop.signal.aborted) throw new CommandError('Interrupted', stop.exitCode);
        }
      }
    } catch (error) {
      if (error instanceof CommandError) throw error;
      throw new CommandError(`Error while reading '${path}': ${reasonOf(error)}`, 1, { cause: error });
    } finally {
      stop.release();
    }
    progress.finish();
    terminal.print(`${hash.digest('hex')}  ${escapeText(path)}\n`);
  },
});
