/** Repairing an image that nobody has open. */

import { RequestFlag, RequestKind } from './abi.js';
import type { BlockFile } from './block-file.js';
import { type CheckReport, readCheckReport, watchProgress } from './check-report.js';
import { Engine } from './engine.js';
import { CorralError } from './errors.js';
import { type ImageFacts, readFacts } from './image-facts.js';

/** Bytes for counting references, when the caller does not say: longer files are walked in several rounds. */
const DEFAULT_CHECK_SIZE = 16 * 1024 * 1024;

/** `leaks` only frees clusters that nothing uses; `all` also puts right whatever loses no data. */
export type RepairKind = 'leaks' | 'all';

export interface RepairOptions {
  core: WebAssembly.Module;
  /** Bytes for counting references. */
  checkSize?: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

export interface Repair {
  readonly info: ImageFacts;
  /** What was put right, and what is left: see `corruptionsFixed`, `leaksFixed` and `findings`. */
  readonly report: CheckReport;
}

/**
 * Repairs the image in `file`, which stays the caller's and must be writable. A power cut in the middle leaves an image
 * that is no worse; the next repair goes on. When nothing is wrong any more, the image is neither dirty nor corrupt.
 * Rejects as `Image.open` does, and with ERR_NO_SPACE, ERR_TOO_LARGE or ERR_CANCELLED.
 */
export async function repairImage(file: BlockFile, kind: RepairKind, options: RepairOptions): Promise<Repair> {
  if (file.readOnly) throw new CorralError('ERR_READ_ONLY', { reason: 'The file is open read-only' });
  const { core, checkSize = DEFAULT_CHECK_SIZE, signal } = options;
  const engine = await Engine.start(file, { core, requestCapacity: 1, cacheSize: 0, checkSize });
  const openFlags = RequestFlag.Writable | RequestFlag.TablesOnly;
  const info = await engine.run({ kind: RequestKind.Open, flags: openFlags, signal, collect: readFacts });
  const flags = kind === 'all' ? RequestFlag.RepairAll : RequestFlag.RepairLeaks;
  const report = await watchProgress(engine.core, options.onProgress, () =>
    engine.run({ kind: RequestKind.Check, flags, signal, collect: readCheckReport }),
  );
  await engine.run({ kind: RequestKind.Close });
  return { info, report };
}

/** Before an image is opened for writing that was not closed cleanly: makes it clean, or rejects with ERR_IMAGE_CORRUPT. */
export async function repairDirty(file: BlockFile, options: RepairOptions): Promise<void> {
  const { report } = await repairImage(file, 'all', options);
  if (report.corruptions + report.checkErrors === 0) return;
  const reason = `Could not repair dirty image: ${report.corruptions} errors are left`;
  throw new CorralError('ERR_IMAGE_CORRUPT', { reason });
}

/** Whether that is why an image could not be opened for writing. */
export function isDirtyImage(error: unknown): boolean {
  return error instanceof CorralError && error.code === 'ERR_UNSUPPORTED' && error.details.field === 'dirty bit';
}
