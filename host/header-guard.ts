/**
 * Keeps a raw disk raw. Whoever writes a raw disk could write the header of an image to its first sector; whoever opened the
 * file afterwards without naming its format would take it for that image, and open what that names as its backing file.
 */
import { CorralError } from './errors.js';
import { SerialQueue } from './serial-queue.js';

const SECTOR = 512;

/** What the formats begin with, as Latin-1 text, and where, in bytes: those that programs find out by looking. */
const SIGNATURES: readonly { readonly format: string; readonly text: string; readonly offset?: number }[] = [
  { format: 'qcow2', text: 'QFI\xfb' },
  { format: 'qed', text: 'QED\0' },
  { format: 'vmdk', text: 'KDMV' },
  { format: 'vmdk', text: 'COWD' },
  { format: 'vmdk', text: '# Disk DescriptorFile' },
  { format: 'vhdx', text: 'vhdxfile' },
  { format: 'vpc', text: 'conectix' },
  { format: 'vdi', text: '\x7f\x10\xda\xbe', offset: 64 },
  { format: 'parallels', text: 'WithoutFreeSpace' },
  { format: 'parallels', text: 'WithouFreSpacExt' },
];

/** The format whose header a first sector begins; undefined when it is none. */
export function headerIn(sector: Uint8Array): string | undefined {
  const text = String.fromCharCode(...sector.subarray(0, 96));
  return SIGNATURES.find(({ text: signature, offset = 0 }) => text.startsWith(signature, offset))?.format;
}

/** The same signatures for the addon: by turns where one begins, its length (a byte each) and its bytes. */
export function packedSignatures(): Uint8Array {
  return Uint8Array.from(
    SIGNATURES.flatMap(({ text, offset = 0 }) => [
      offset,
      text.length,
      ...Array.from(text, (one) => one.charCodeAt(0)),
    ]),
  );
}

/** A raw disk as the guard sees it. */
export interface GuardedDisk {
  read(offset: number, target: Uint8Array): Promise<void>;
}

/** Looks at what the first sector would become: it may be put together by several writes, one at a time. */
export class HeaderGuard {
  private readonly queue = new SerialQueue();

  constructor(private readonly disk: GuardedDisk) {}

  /**
   * Carries out a write, unless the first sector would begin as an image then.
   *
   * @param offset bytes from the start of the disk
   * @throws CorralError ERR_PERMISSION, and nothing was written
   */
  async write(offset: number, source: Uint8Array, write: () => Promise<void>): Promise<void> {
    await this.change(offset, (sector) => sector.set(source.subarray(0, SECTOR - offset), offset), write);
  }

  /** The same for what makes `length` bytes zeros, or may: a signature can have one. */
  async zero(offset: number, length: number, zero: () => Promise<void>): Promise<void> {
    await this.change(offset, (sector) => sector.fill(0, offset, offset + length), zero);
  }

  private async change(
    offset: number,
    foresee: (sector: Uint8Array) => void,
    carryOut: () => Promise<void>,
  ): Promise<void> {
    if (offset >= SECTOR) return carryOut();
    return this.queue.run(async () => {
      const sector = new Uint8Array(SECTOR);
      await this.disk.read(0, sector);
      foresee(sector);
      const format = headerIn(sector);
      if (format !== undefined) {
        throw new CorralError('ERR_PERMISSION', {
          reason: `The first sector of this raw disk would become the header of a ${format} image`,
        });
      }
      await carryOut();
    });
  }
}
