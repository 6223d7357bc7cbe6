/** `corral rebase`: a disk continues from another backing file, or from none. */

import { Field } from '../../abi.js';
import { CorralError } from '../../errors.js';
import { copyDifferences } from '../../rebase.js';
import { Closers } from '../closers.js';
import { cacheOption, FORCE_SHARE, IMAGE, PROGRESS, QUIET } from '../common-options.js';
import { type Disk, openDisk } from '../disk.js';
import { flag, type OptionValues, text } from '../option-table.js';
import { CommandError, reasonIn, type Terminal, UsageError } from '../output.js';
import { showProgress } from '../progress.js';
import { stopSignal } from '../signals.js';
import { defineVerb, oneOperand } from '../verb.js';

const OPTIONS = {
  ...IMAGE,
  backing: text('-b, --backing FILE', 'the new backing file, relative to the folder of the image; "": none'),
  backingFormat: text('-F, -B, --backing-format FMT', 'qcow2 or raw: the format of that file'),
  unsafe: flag('-u, --backing-unsafe', 'only change the name: what shows through may be something else then'),
  compress: flag('-c, --compress', 'what has to be copied is compressed'),
  cache: cacheOption('-t, --cache CACHE'),
  backingCache: cacheOption('-T, --backing-cache CACHE', 'source cache'),
  ...FORCE_SHARE,
  ...PROGRESS,
  ...QUIET,
};

type Options = OptionValues<typeof OPTIONS>;

export const rebase = defineVerb({
  about:
    'Makes a disk continue from another backing file. What differs between the old and the new one is copied into the\n' +
    'image first, so that the disk stays as it is.',
  operands: 'FILE',
  options: OPTIONS,
  async run({ values, operands }, { terminal }) {
    const path = oneOperand(operands);
    const { backing, unsafe, backingFormat } = values;
    if (backing === undefined && !unsafe)
      throw new UsageError('Must specify backing file (-b) or use unsafe mode (-u)');
    if (backingFormat !== undefined && backingFormat !== 'raw' && backingFormat !== 'qcow2') {
      throw new CommandError(`Invalid format name: '${backingFormat}'`);
    }
    await rebaseImage(path, values, terminal);
  },
});

async function rebaseImage(path: string, options: Options, terminal: Terminal): Promise<void> {
  const { backing = '', backingFormat, unsafe } = options;
  const cannotChange = (reason: string): never => {
    throw new CommandError(`Could not change the backing file to '${backing}': ${reason}`);
  };
  await using opened = new Closers();
  const overlay = opened.add(
    await openDisk(path, { ...options, forceShare: false, write: true, terminal, tablesOnly: unsafe }),
  );
  const { image } = overlay;
  if (image === undefined && options.compress) throw new CommandError('Compression not supported for this file format');
  if (image === undefined) return cannotChange('Operation not supported');
  const behind = unsafe || backing === '' ? undefined : opened.add(await openNew(overlay, backing, options));
  if (backing !== '' && backingFormat === undefined) cannotChange('backing format must be specified');
  if (!unsafe) await copy(overlay, behind, options, terminal);
  try {
    await image.amend(
      backing === '' ? { backingFile: null } : { backingFile: backing, backingFormat: backingFormat as string },
    );
  } catch (error) {
    if (!(error instanceof CorralError)) throw error;
    const isSplit = error.code === 'ERR_UNSUPPORTED' && error.details.fieldCode === Field.DataFile;
    cannotChange(isSplit ? 'Invalid argument' : reasonIn(path, error));
  }
  await image.close();
}

/** Relative to the folder of the image, as it will be read there. */
async function openNew(overlay: Disk, backing: string, options: Options): Promise<Disk> {
  const folder = overlay.name.path.slice(0, overlay.name.path.lastIndexOf('/') + 1);
  const place = backing.startsWith('/') ? backing : folder + backing;
  try {
    return await openDisk(place, { format: options.backingFormat, forceShare: options.forceShare });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const about = `Could not open new backing file '${backing}': `;
    throw new CommandError(error.message.replace(/^Could not open '.*?': /s, about), 1, error);
  }
}

async function copy(overlay: Disk, behind: Disk | undefined, options: Options, terminal: Terminal): Promise<void> {
  const { image } = overlay;
  if (image === undefined) return;
  const stop = stopSignal();
  const progress = showProgress(terminal, options.quiet ? undefined : options.progress);
  try {
    await copyDifferences(image, behind, {
      compress: options.compress,
      onProgress: progress.report,
      signal: stop.signal,
    });
  } catch (error) {
    const said =
      stop.exitCode === 0
        ? `error while copying: ${reasonIn(overlay.name.text, error)}`
        : 'Interrupted: the backing file is the old one';
    throw new CommandError(said, stop.exitCode || 1, { cause: error });
  } finally {
    stop.release();
  }
  progress.finish();
}
