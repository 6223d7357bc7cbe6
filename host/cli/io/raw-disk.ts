/** A file that is the disk itself. */

import type { BlockFile } from '../../block-file.js';
import { type CacheMode, isWriteThrough } from '../../cache-mode.js';
import { CorralError } from '../../errors.js';
import type { Preallocation } from '../../preallocate.js';
import { SystemFailure } from '../errno-text.js';
import { type DetectZeroes, isDetected } from '../node-options.js';
import { checkPreallocation, checkRange, type Disk, type DiskRange } from './disk.js';
import { SECTOR } from './values.js';

/** How files of other formats begin: at which byte, and with what. */
const SIGNATURES: readonly (readonly [offset: number, bytes: string])[] = [
  [0, 'QFI\xfb'],
  [0, 'QED\0'],
  [0, 'KDMV'],
  [0, 'COWD'],
  [0, 'conectix'],
  [0, 'vhdxfile'],
  [0, 'LUKS\xba\xbe'],
  [0, 'WithoutFreeSpace'],
  [0, 'WithouFreSpacExt'],
  [0, 'Bochs Virtual HD Image'],
  [0x40, '\x7f\x10\xda\xbe'],
];

export interface RawDiskOptions {
  /** The format was found out: nobody may make the disk look like another one. */
  readonly guessed: boolean;
  readonly cache: CacheMode;
  /** Discards reach the file. */
  readonly discard: boolean;
  /** What becomes of writes of zeros. */
  readonly detectZeroes: DetectZeroes | undefined;
  /** What `info` calls the format. */
  readonly name: string;
}

export class RawDisk implements Disk {
  readonly readOnly: boolean;

  /** Opens the disk in a file, which belongs to it from here on. */
  static async open(file: BlockFile, options: RawDiskOptions): Promise<RawDisk> {
    return new RawDisk(file, options, await file.size());
  }

  private constructor(
    private readonly file: BlockFile,
    private readonly options: RawDiskOptions,
    private size: number,
  ) {
    this.readOnly = file.readOnly;
  }

  corruption(): undefined {
    return undefined;
  }

  facts(): string {
    const { name } = this.options;
    // QEMU tells the name of a protocol, too.
    const names = name === 'raw' ? [name] : [name, name];
    return `${names.map((one) => `format name: ${one}\n`).join('')}cluster size: 0 bytes\nvm state offset: 0 bytes\n`;
  }

  length(): number {
    return Math.ceil(this.size / SECTOR) * SECTOR;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    checkRange(this, offset, target.length);
    await this.file.read(offset, target);
  }

  async write(offset: number, source: Uint8Array, { durable }: { durable: boolean }): Promise<void> {
    checkRange(this, offset, source.length);
    if (this.options.guessed && offset < SECTOR && source.length > 0) await this.checkStart(offset, source);
    const { detectZeroes } = this.options;
    if (isDetected(detectZeroes, source)) await this.zero(offset, source.length, detectZeroes === 'unmap');
    else await this.file.write(offset, [source]);
    this.size = Math.max(this.size, offset + source.length);
    if (durable || isWriteThrough(this.options.cache)) await this.flush();
  }

  async writeCompressed(): Promise<void> {
    throw new CorralError('ERR_UNSUPPORTED');
  }

  async writeZeroes(
    offset: number,
    length: number,
    { unmap, durable }: { unmap: boolean; durable: boolean },
  ): Promise<void> {
    checkRange(this, offset, length);
    await this.zero(offset, length, unmap);
    this.size = Math.max(this.size, offset + length);
    if (durable || isWriteThrough(this.options.cache)) await this.flush();
  }

  async readVmState(): Promise<void> {
    throw new SystemFailure('EOPNOTSUPP');
  }

  async writeVmState(): Promise<void> {
    throw new SystemFailure('EOPNOTSUPP');
  }

  async discard(offset: number, length: number): Promise<void> {
    checkRange(this, offset, length);
    if (this.options.discard) await this.file.discard(offset, length);
  }

  async flush(): Promise<void> {
    if (!this.readOnly && this.options.cache !== 'unsafe') await this.file.flush();
  }

  async truncate(length: number, preallocation: Preallocation): Promise<void> {
    if (preallocation === 'metadata') {
      throw new CorralError('ERR_UNSUPPORTED', { reason: 'Unsupported preallocation mode: metadata' });
    }
    const before = this.size;
    checkPreallocation(preallocation, before, length);
    await this.file.truncate(length);
    this.size = length;
    if (preallocation !== 'off' && length > before) await this.file.writeZeroes(before, length - before);
  }

  async *map(offset: number, length: number): AsyncGenerator<DiskRange> {
    if (length > 0) yield { offset, length, allocated: true };
  }

  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      await this.file.close();
    }
  }

  private async zero(offset: number, length: number, unmap: boolean): Promise<void> {
    await this.file.writeZeroes(offset, length);
    // What is zeros by now may be a hole.
    if (unmap && this.options.discard) await this.file.discard(offset, length);
  }

  private async checkStart(offset: number, source: Uint8Array): Promise<void> {
    const start = new Uint8Array(SECTOR);
    await this.file.read(0, start);
    start.set(source.subarray(0, SECTOR - offset), offset);
    const text = String.fromCharCode(...start);
    if (SIGNATURES.some(([at, bytes]) => text.startsWith(bytes, at))) throw new SystemFailure('EPERM');
  }
}
