/** `corral serve`: an image as a block device where that is possible, else over NBD; says which, and what to type next. */

import { existsSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import type { UblkDevice } from '../../node/ublk-device.js';
import { NO_BACKING } from '../common-options.js';
import { whyNoUblk } from '../devices.js';
import { openFile, openImageIn } from '../open.js';
import { flag, text } from '../option-table.js';
import { CommandError, escapeText, humanSize, reasonOf, type Terminal, UsageError } from '../output.js';
import { type StopSignal, stopSignal } from '../signals.js';
import { defineVerb } from '../verb.js';

const SAMPLE = 'corral-sample.qcow2';
const SAMPLE_SIZE = 1024 ** 3;

interface Options {
  nbd: boolean;
  socket: string | undefined;
  readOnly: boolean;
  noBacking: boolean;
}

export const serve = defineVerb({
  about:
    'Serves an image: as a block device (ublk) if kernel and permissions allow it, else over NBD.\n' +
    `Without one, ${SAMPLE} in this folder, which is made when it is missing.`,
  operands: '[IMAGE]',
  options: {
    nbd: flag('--nbd', 'NBD, even where ublk would work'),
    socket: text('--socket PATH', 'where to make the NBD socket; implies --nbd'),
    readOnly: flag('-r, --read-only', 'refuse writes'),
    ...NO_BACKING,
  },
  async run({ values, operands }, { terminal }) {
    if (operands.length > 1) throw new UsageError('Expecting one image file name');
    const stop = stopSignal();
    try {
      await serveImage(operands[0] ?? (await sampleImage(terminal)), values, { terminal, stop });
    } finally {
      stop.release();
    }
  },
});

/** An image to play with. What the user did to it stays. */
async function sampleImage(terminal: Terminal): Promise<string> {
  if (existsSync(SAMPLE)) {
    if (!statSync(SAMPLE).isFile()) throw new CommandError(`'${SAMPLE}' is no file: which image shall be served?`);
    return SAMPLE;
  }
  const { newImage } = await import('../create-options.js');
  const { makeImage } = await import('../new-file.js');
  try {
    await makeImage(SAMPLE, newImage(SAMPLE, 'qcow2', []), BigInt(SAMPLE_SIZE));
  } catch (error) {
    throw new CommandError(`Could not create the sample image '${SAMPLE}': ${reasonOf(error)}`, 1, { cause: error });
  }
  terminal.print(`No image given: made ${SAMPLE}, ${humanSize(SAMPLE_SIZE)} and empty.\n`);
  return SAMPLE;
}

interface Surroundings {
  readonly terminal: Terminal;
  readonly stop: StopSignal;
}

async function serveImage(path: string, options: Options, around: Surroundings): Promise<void> {
  const obstacle = options.nbd || options.socket !== undefined ? 'Not asked for' : await whyNoUblk();
  if (obstacle === undefined) await overUblk(path, options, around);
  else await overNbd(path, options, obstacle, around);
}

async function overUblk(
  path: string,
  { readOnly, noBacking }: Options,
  { terminal, stop }: Surroundings,
): Promise<void> {
  const { makeDevice, serveDevices } = await import('../serve-device.js');
  const onReady = ({ node, info }: UblkDevice): void => {
    const next = readOnly ? `fdisk -l ${node}` : `mkfs.ext4 ${node}`;
    terminal.print(
      `${escapeText(path)}, ${humanSize(info.virtualSize)}, is the block device ${node} (ublk). Ctrl-C ends it.\n` +
        `Next, as root: lsblk -f ${node}, or, ${readOnly ? 'if it has partitions' : 'if it is empty'}: ${next}\n`,
    );
  };
  const make = () => makeDevice(path, { readOnly, backing: !noBacking });
  await serveDevices([make], stop, { onReady, warn: (line) => terminal.note(line) });
}

async function overNbd(
  path: string,
  options: Options,
  obstacle: string,
  { terminal, stop }: Surroundings,
): Promise<void> {
  const [{ serveNbd }, { exportImage }, { defaultSocketPath }] = await Promise.all([
    import('../../nbd/server.js'),
    import('../../nbd/image-export.js'),
    import('../../nbd/socket-path.js'),
  ]);
  const write = !options.readOnly;
  const file = await openFile(path, { write, mayReadOnly: true });
  const image = await openImageIn(file, path, { write, noBacking: options.noBacking });
  try {
    const name = basename(path);
    const socketPath = options.socket ?? (await defaultSocketPath(name));
    const server = await serveNbd(await exportImage(image, { name }), {
      socketPath,
      log: (line) => terminal.note(line),
    });
    terminal.print(
      `${escapeText(path)}, ${humanSize(image.size)}, is served over NBD (ublk: ${escapeText(obstacle)}). Ctrl-C ends it.\n` +
        `Next: qemu-io ${write ? '' : '-r '}-f raw '${escapeText(server.uri)}' -c 'read 0 4k'\n`,
    );
    await stopped(stop);
    await server.close();
  } finally {
    await image.close();
  }
}

function stopped({ signal }: StopSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
