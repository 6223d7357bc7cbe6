/** The disk of a qcow2 image. */

import { CorralError } from '../../errors.js';
import type { Image } from '../../image.js';
import type { ImageFacts } from '../../image-facts.js';
import type { Preallocation } from '../../preallocate.js';
import { SystemFailure } from '../errno-text.js';
import { type DetectZeroes, isDetected } from '../node-options.js';
import { escapeText } from '../output.js';
import { corruptionLine } from './corruption.js';
import { checkPreallocation, checkRange, type Disk, type DiskRange } from './disk.js';
import { SECTOR, sizeText } from './values.js';

const L2_ENTRY_SIZE = 8;

export class ImageDisk implements Disk {
  private isToldCorrupt = false;

  /**
   * @param image belongs to the disk from here on
   * @param options whether discards are carried out, and what becomes of writes of zeros
   */
  constructor(
    private readonly image: Image,
    private readonly options: { readonly discard: boolean; readonly detectZeroes: DetectZeroes | undefined },
  ) {}

  get readOnly(): boolean {
    return this.image.readOnly;
  }

  corruption(error: unknown, changing: boolean): string | undefined {
    const line = this.isToldCorrupt
      ? undefined
      : corruptionLine(error, this.image.info, changing && this.image.info.version > 2);
    this.isToldCorrupt ||= line !== undefined;
    return line;
  }

  facts(): string {
    const { info } = this.image;
    const start = `format name: qcow2\ncluster size: ${sizeText(info.clusterSize)}\n`;
    const facts = specificFacts(info).map(([name, value]) => `    ${name}: ${value}\n`);
    return `${start}vm state offset: ${sizeText(vmStateOffset(info))}\nFormat specific information:\n${facts.join('')}`;
  }

  length(): number {
    return this.image.size;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    checkRange(this, offset, target.length);
    await this.image.read(offset, target);
  }

  async write(offset: number, source: Uint8Array, { durable }: { durable: boolean }): Promise<void> {
    checkRange(this, offset, source.length);
    const { detectZeroes } = this.options;
    if (!isDetected(detectZeroes, source)) await this.image.write(offset, source, { durable });
    else await this.writeZeroes(offset, source.length, { unmap: detectZeroes === 'unmap', durable });
  }

  /** As in QEMU, only where nothing is yet: whole clusters, of which the last may be cut short by the end of the disk. */
  async writeCompressed(offset: number, source: Uint8Array): Promise<void> {
    const { image } = this;
    const { clusterSize, hasDataFile } = image.info;
    checkRange(this, offset, source.length);
    const end = offset + source.length;
    if (hasDataFile) throw new CorralError('ERR_UNSUPPORTED');
    if (offset % clusterSize !== 0 || (end % clusterSize !== 0 && end !== image.size))
      throw new SystemFailure('EINVAL');
    for await (const { allocated } of image.map({ offset, length: source.length })) {
      if (allocated) throw new SystemFailure('EIO');
    }
    await image.writeCompressed(offset, source);
  }

  async writeZeroes(
    offset: number,
    length: number,
    { unmap, durable }: { unmap: boolean; durable: boolean },
  ): Promise<void> {
    checkRange(this, offset, length);
    await this.image.writeZeroes(offset, length, { unmap: unmap && this.options.discard, durable });
  }

  readVmState(offset: number, target: Uint8Array): Promise<void> {
    return this.image.readVmState(offset, target);
  }

  writeVmState(offset: number, source: Uint8Array): Promise<void> {
    return this.image.writeVmState(offset, source);
  }

  async discard(offset: number, length: number): Promise<void> {
    checkRange(this, offset, length);
    if (this.options.discard) await this.image.discard(offset, length);
  }

  async flush(): Promise<void> {
    if (!this.readOnly) await this.image.flush();
  }

  async truncate(length: number, preallocation: Preallocation): Promise<void> {
    if (length % SECTOR !== 0) {
      throw new CorralError('ERR_INVALID_ARGUMENT', { reason: `The new size must be a multiple of ${SECTOR}` });
    }
    checkPreallocation(preallocation, this.image.size, length);
    await this.image.resize(length, {
      shrink: true,
      preallocation: length === this.image.size ? 'off' : preallocation,
    });
  }

  async *map(offset: number, length: number): AsyncGenerator<DiskRange> {
    const end = offset + length;
    for await (const extent of this.image.map({ offset, length })) {
      const start = Math.max(extent.offset, offset);
      const stop = Math.min(extent.offset + extent.length, end);
      if (start < stop) yield { offset: start, length: stop - start, allocated: extent.kind !== 'unallocated' };
    }
  }

  async close(): Promise<void> {
    await this.image.close();
  }
}

/** Where the disk's tables hold what lies behind its end: at the first entry of the L1 table that the disk has no use for. */
function vmStateOffset({ virtualSize, clusterSize, extendedL2 }: ImageFacts): number {
  const covered = (clusterSize / (extendedL2 ? 2 * L2_ENTRY_SIZE : L2_ENTRY_SIZE)) * clusterSize;
  return Math.ceil(virtualSize / covered) * covered;
}

function specificFacts(info: ImageFacts): [name: string, value: string | number | boolean][] {
  const facts: [string, string | number | boolean | undefined][] = [
    ['compat', info.version === 2 ? '0.10' : '1.1'],
    ['compression type', info.compressionType],
    ['lazy refcounts', info.version === 2 ? undefined : info.lazyRefcounts],
    ['refcount bits', info.refcountBits],
    ['data file', info.dataFile === undefined ? undefined : escapeText(info.dataFile)],
    ['data file raw', info.hasDataFile ? info.dataFileRaw : undefined],
    ['corrupt', info.version === 2 ? undefined : info.corrupt],
    ['extended l2', info.version === 2 ? undefined : info.extendedL2],
  ];
  return facts.filter((fact): fact is [string, string | number | boolean] => fact[1] !== undefined);
}
