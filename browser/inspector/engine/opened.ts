/** Opens what was dropped as far as that is possible: the disk, or only its tables, or only its header. */

import type { BlockFile } from '../../../host/block-file.js';
import { layersOf } from '../../../host/chain.js';
import { CorralError } from '../../../host/errors.js';
import { Image } from '../../../host/image.js';
import type { ImageFacts } from '../../../host/image-facts.js';
import { detectFormats, judgeMatches } from '../../../host/inspect/formats.js';
import type { OpenGate } from '../../../host/open-gate.js';
import type { SnapshotSelection } from '../../../host/snapshot-record.js';
import type { ChainLink, Overview, Problem } from '../protocol.js';
import { type GuestDisk, imageDisk, rawDisk } from './disk.js';
import { problemOf } from './problem.js';

/** Bytes for counting references in a check. */
const CHECK_SIZE = 16 * 2 ** 20;

export interface NamedFile {
  readonly name: string;
  open(): BlockFile;
}

export interface Opened {
  readonly format: Overview['format'];
  readonly file: BlockFile;
  readonly fileLength: number;
  /** For `info`, snapshots, bitmaps and the check: what could be opened. */
  readonly image: Image | undefined;
  readonly facts: ImageFacts | undefined;
  /** Undefined when its content cannot be read. */
  readonly disk: GuestDisk | undefined;
  readonly chain: readonly ChainLink[];
  readonly problems: readonly Problem[];
}

/** The last part of a name: a page knows no folders. */
export function baseName(name: string): string {
  return name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1);
}

/** A gate that opens the files that were dropped together, by the last part of their names. */
export function gateOf(files: readonly NamedFile[]): OpenGate {
  return async ({ role, name }) => {
    const wanted = baseName(name);
    const found = files.find((file) => baseName(file.name) === wanted);
    if (found !== undefined) return found.open();
    const reason = `The image needs its ${role} '${wanted}', which is not among the files`;
    throw new CorralError('ERR_NOT_FOUND', { reason, field: role });
  };
}

/** The gate of the page for addresses: whoever made the image does not choose what it connects to. */
export const noAddressGate: OpenGate = async ({ role, name }) => {
  const reason = `The image names its ${role} '${name}', which was not fetched: this page reads the address that you gave, and no other`;
  throw new CorralError('ERR_PERMISSION', { reason, field: role });
};

/** Never rejects because of what is in the file: that becomes a problem. */
export async function openTop(
  file: BlockFile,
  name: string,
  core: WebAssembly.Module,
  gate: OpenGate,
): Promise<Opened> {
  const fileLength = await file.size();
  const matches = await detectFormats({ length: fileLength, bytes: (offset, length) => bytesOf(file, offset, length) });
  const { format } = judgeMatches(matches);
  if (format === 'raw' || format === 'iso') {
    const chain = [{ name, format: 'raw', size: fileLength, present: true }];
    const disk = rawDisk(file, fileLength);
    const problems = await packedProblems(file);
    return { format: 'raw', file, fileLength, image: undefined, facts: undefined, disk, chain, problems };
  }
  const nothing = { file, fileLength, image: undefined, facts: undefined, disk: undefined };
  if (format !== 'qcow2') {
    const problem = {
      code: 'ERR_UNSUPPORTED',
      message: `This is an image of the format ${format.toUpperCase()}, of which only the header is looked at`,
      advice: 'Convert it with qemu-img convert -O qcow2 to see more.',
    };
    const chain = [{ name, format, size: undefined, present: true }];
    return { ...nothing, format: 'other', chain, problems: [problem] };
  }
  return openQcow2(file, fileLength, name, core, gate);
}

/** How files begin that hold another one, packed. */
const PACKED: Readonly<Record<string, readonly number[]>> = {
  gzip: [0x1f, 0x8b],
  xz: [0xfd, 0x37, 0x7a, 0x58, 0x5a],
  zstd: [0x28, 0xb5, 0x2f, 0xfd],
  bzip2: [0x42, 0x5a, 0x68],
  zip: [0x50, 0x4b, 0x03, 0x04],
};

/** An image is often downloaded in packed form: nothing is wrong with that, but it is not the disk that is shown. */
async function packedProblems(file: BlockFile): Promise<Problem[]> {
  const start = await bytesOf(file, 0, 8);
  const kind = Object.keys(PACKED).find((name) => PACKED[name]?.every((byte, index) => start[index] === byte));
  if (kind === undefined) return [];
  const message = `This file is packed with ${kind}: what is shown is the packed file, not a disk`;
  return [{ code: 'WARNING', message, advice: 'Unpack it, and drop what comes out of it.' }];
}

async function openQcow2(
  file: BlockFile,
  fileLength: number,
  name: string,
  core: WebAssembly.Module,
  gate: OpenGate,
): Promise<Opened> {
  const base = { format: 'qcow2', file, fileLength } as const;
  const problems: Problem[] = [];
  const options = { core, gate, checkSize: CHECK_SIZE };
  const attempts = [options, { ...options, backing: null }, { ...options, tablesOnly: true }, { core, inspect: true }];
  for (const [index, attempt] of attempts.entries()) {
    try {
      const image = await Image.open(file, attempt);
      const chain = chainOf(name, image, index > 0);
      const disk = index < 2 ? imageDisk(image) : undefined;
      return { ...base, image, facts: image.info, disk, chain, problems };
    } catch (error) {
      const problem = problemOf(error);
      if (!problems.some(({ message }) => message === problem.message)) problems.push(problem);
    }
  }
  const chain = [{ name, format: 'qcow2', size: undefined, present: true }];
  return { ...base, image: undefined, facts: undefined, disk: undefined, chain, problems: problems.slice(-1) };
}

/** Another state of the same disk. */
export async function openSnapshot(
  file: BlockFile,
  core: WebAssembly.Module,
  gate: OpenGate,
  snapshot: SnapshotSelection,
): Promise<GuestDisk> {
  try {
    return imageDisk(await Image.open(file, { core, gate, snapshot }));
  } catch (error) {
    if (!(error instanceof CorralError) || error.details.field !== 'backing file') throw error;
    return imageDisk(await Image.open(file, { core, snapshot, backing: null }));
  }
}

function chainOf(name: string, image: Image, alone: boolean): ChainLink[] {
  const { info } = image;
  const top = { name, format: 'qcow2', size: info.virtualSize, present: true };
  const links: ChainLink[] = [top];
  for (const layer of layersOf(image)) {
    links.push({ name: baseName(layer.location ?? '?'), format: layer.format, size: layer.length, present: true });
  }
  if (alone && info.backingFile !== undefined) {
    links.push({ name: info.backingFile, format: info.backingFormat ?? 'unknown', size: undefined, present: false });
  }
  return links;
}

async function bytesOf(file: BlockFile, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const target = new Uint8Array(length);
  await file.read(offset, target);
  return target;
}
