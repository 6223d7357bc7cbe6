/** `corral attach`: serves images as Linux block devices until a signal comes. */

import { checkDevice, type UblkPlan } from '../../node/ublk-check.js';
import type { UblkDevice } from '../../node/ublk-device.js';
import { DATA_PATHS, RECOVERIES, type UblkDataPath, type UblkRecovery } from '../../node/ublk-features.js';
import { cacheSizeArgument, countArgument } from '../arguments.js';
import { cacheOption, IMAGE, METRICS, NO_BACKING } from '../common-options.js';
import { readDeviceName } from '../device-name.js';
import { flag, type Option, text, value } from '../option-table.js';
import { type Terminal, UsageError } from '../output.js';
import { ensureOverlay } from '../overlay.js';
import { cannotAttach, type DeviceOptions, deviceOptions, makeDevice, serveDevices } from '../serve-device.js';
import { stopSignal } from '../signals.js';
import { defineVerb } from '../verb.js';

const MAXIMUM_QUEUE_DEPTH = 4096;
const MAXIMUM_QUEUES = 4096;

export const attach = defineVerb({
  about:
    'Serves each image as a block device, whose name it prints, until SIGINT or SIGTERM. What was answered is safe then,\n' +
    'and the devices are gone. Runs in the foreground.',
  operands: 'IMAGE...',
  options: {
    ...IMAGE,
    readOnly: flag('-r, --read-only', 'refuse writes'),
    ...NO_BACKING,
    noGuard: flag('--no-guard', 'the header of an image may be written into the first sector of a raw disk'),
    cacheSize: value('--cache-size SIZE', 'memory for metadata, as in 512k, 16M (default: 4M)', cacheSizeArgument),
    queueDepth: value('--queue-depth COUNT', 'requests at a time (default: 128)', (given) =>
      countArgument(given, 'queue depth', 1, MAXIMUM_QUEUE_DEPTH),
    ),
    queues: value('--queues COUNT', 'hardware queues, each with a thread (default: 1)', (given) =>
      countArgument(given, 'number of queues', 1, MAXIMUM_QUEUES),
    ),
    blockSize: value('--block-size BYTES', '512 or 4096 (default: 512)', (given) =>
      countArgument(given, 'block size', 512, 4096),
    ),
    cache: cacheOption('-t, --cache CACHE'),
    discard: oneOf<'unmap' | 'ignore'>(
      '--discard MODE',
      'unmap (the default) or ignore: whether discards are offered',
      ['unmap', 'ignore'],
    ),
    recovery: oneOf<UblkRecovery>(
      '--recovery MODE',
      'when this process dies, the device ends (off), or waits: what was under way is asked again (reissue), or fails, ' +
        'and what comes waits (fail) or fails, too (fail-all)',
      RECOVERIES,
    ),
    dataPath: oneOf<UblkDataPath | 'auto'>(
      '--data-path PATH',
      'auto (the default), zero-copy, registered, user-copy or plain: how bytes get to the image and back',
      ['auto', ...DATA_PATHS],
    ),
    overlay: text('--overlay FILE', 'serve this overlay over the image, which is only read; made when it is missing'),
    ...METRICS,
    dryRun: flag('--dry-run', 'only say what would be done, or why it cannot be'),
    verbose: flag('-v, --verbose', "also say what of the kernel's driver is used"),
  },
  async run({ values, operands }, { terminal }) {
    if (operands.length === 0) throw new UsageError('Expecting image file names');
    const { format, imageOpts, object: _, noBacking, noGuard, dryRun, verbose, overlay, metrics, ...options } = values;
    if (overlay !== undefined && (operands.length > 1 || dryRun || noBacking || imageOpts || format !== undefined)) {
      throw new UsageError('--overlay is for one image, and not with --dry-run, --no-backing, --image-opts or -f');
    }
    if (noGuard && format !== 'raw' && !imageOpts) throw new UsageError('--no-guard is for raw disks: it needs -f raw');
    const device: DeviceOptions = { ...options, backing: !noBacking, guard: !noGuard };
    if (dryRun) {
      for (const text of operands) {
        const { path, options } = readDeviceName(text, { format, imageOpts }, device);
        await tryOut(path, options, terminal);
      }
      return;
    }
    const stop = stopSignal();
    try {
      const [base] = operands;
      if (overlay !== undefined && base !== undefined) await ensureOverlay(base, overlay);
      const named =
        overlay === undefined
          ? operands.map((text) => readDeviceName(text, { format, imageOpts }, device))
          : [{ path: overlay, options: device }];
      const makers = named.map(
        ({ path, options }) =>
          () =>
            makeDevice(path, options),
      );
      const onReady = ({ node, features }: UblkDevice): void => {
        const { dataPath, recovery, updateSize } = features;
        const used = `data path ${dataPath}, recovery ${recovery}, live resize ${updateSize ? 'yes' : 'no'}`;
        terminal.print(verbose ? `${node}\n${node}: ${used}\n` : `${node}\n`);
      };
      await serveDevices(makers, stop, { onReady, warn: (line) => terminal.note(line), metrics });
    } finally {
      stop.release();
    }
  },
});

async function tryOut(path: string, options: DeviceOptions, terminal: Terminal): Promise<void> {
  let plan: UblkPlan;
  try {
    plan = await checkDevice(path, deviceOptions(options));
  } catch (error) {
    throw cannotAttach(path, options, error);
  }
  const { parameters, features, offered, queueDepth } = plan;
  terminal.print(
    `${path}: ${parameters.size} bytes in blocks of ${parameters.logicalBlockSize}, ` +
      `${parameters.readOnly ? 'read-only' : 'read-write'}, queue depth ${queueDepth}\n` +
      `data path: ${features.dataPath}; recovery: ${features.recovery}; live resize: ${features.updateSize ? 'yes' : 'no'}\n` +
      `driver: ${offered.join(' ')}\n`,
  );
}

function oneOf<T extends string>(names: string, about: string, known: readonly T[]): Option<T | undefined> {
  return value(names, about, (given) => {
    if ((known as readonly string[]).includes(given)) return given as T;
    throw new UsageError(`${names.split(' ')[0]} expects ${known.join(', ')}, not '${given}'`);
  });
}
