/** Directories of FAT: entries of 32 bytes, and long names in the entries before them. */

import { checkName, type FileStatus } from '../file-system.js';
import { viewOf } from '../reader.js';

const ENTRY = 32;
const DELETED = 0xe5;
/** Stands for a first character that would look as if the entry was deleted. */
const STANDS_FOR_E5 = 0x05;

const READ_ONLY = 0x01;
const VOLUME = 0x08;
const DIRECTORY = 0x10;
const LONG_NAME = 0x0f;
const LONG_NAME_MASK = 0x3f;
const LAST_PIECE = 0x40;
/** Pieces of 13 characters: 255 in all. */
const MOST_PIECES = 20;
const PIECE_PLACES = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/** Names without a long one that are shown in small letters. */
const SMALL_BASE = 0x08;
const SMALL_EXTENSION = 0x10;

/** Characters 128 to 255 of code page 437, in which short names are unless a system says otherwise. */
const UPPER_HALF =
  'ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0';

export interface FatFile extends FileStatus {
  readonly firstCluster: number;
}

export interface FatEntry {
  readonly name: string;
  readonly file: FatFile;
}

/** What a directory says, and the label when it is the root. */
export interface FatDirectory {
  readonly entries: readonly FatEntry[];
  readonly label: string | undefined;
}

/** Reads the entries in the bytes of a directory; throws ERR_IMAGE_CORRUPT for names that no file may have. */
export function parseDirectory(bytes: Uint8Array, placeOf: (index: number) => number): FatDirectory {
  const entries: FatEntry[] = [];
  let label: string | undefined;
  let long: LongName | undefined;
  for (let at = 0; at + ENTRY <= bytes.length && bytes[at] !== 0; at += ENTRY) {
    const entry = bytes.subarray(at, at + ENTRY);
    const attributes = entry[11] as number;
    if (entry[0] === DELETED) {
      long = undefined;
    } else if ((attributes & LONG_NAME_MASK) === LONG_NAME) {
      long = LongName.continued(long, entry);
    } else {
      const short = shortName(entry);
      if ((attributes & VOLUME) !== 0) label ??= cp437(entry.subarray(0, 11)).trimEnd();
      else if (short !== '.' && short !== '..') {
        const name = checkName(long?.finished(entry) ?? short);
        entries.push({ name, file: fileOf(entry, attributes, placeOf(at)) });
      }
      long = undefined;
    }
  }
  return { entries, label };
}

/** A long name while its pieces come in: the last one first. */
class LongName {
  private constructor(
    private readonly checksum: number,
    private readonly left: number,
    private readonly text: string,
  ) {}

  static continued(earlier: LongName | undefined, entry: Uint8Array): LongName | undefined {
    const order = entry[0] as number;
    const number = order & ~LAST_PIECE;
    const checksum = entry[13] as number;
    const isLast = (order & LAST_PIECE) !== 0;
    if (number === 0 || number > MOST_PIECES) return undefined;
    if (!isLast && (earlier === undefined || earlier.left !== number || earlier.checksum !== checksum))
      return undefined;
    const view = viewOf(entry);
    const units = PIECE_PLACES.map((place) => view.getUint16(place, true));
    const text = String.fromCharCode(...units) + (isLast ? '' : (earlier?.text ?? ''));
    return new LongName(checksum, number - 1, text);
  }

  /** The name, when all of it is there and belongs to the entry that follows. */
  finished(entry: Uint8Array): string | undefined {
    let sum = 0;
    for (let index = 0; index < 11; index++) sum = (((sum & 1) << 7) + (sum >> 1) + (entry[index] as number)) & 0xff;
    if (this.left !== 0 || sum !== this.checksum) return undefined;
    const end = this.text.indexOf('\0');
    return end === -1 ? this.text : this.text.slice(0, end);
  }
}

function shortName(entry: Uint8Array): string {
  const flags = entry[12] as number;
  const bytes = entry.slice(0, 11);
  if (bytes[0] === STANDS_FOR_E5) bytes[0] = DELETED;
  const part = (from: number, to: number, isSmall: number): string => {
    const text = cp437(bytes.subarray(from, to)).trimEnd();
    return isSmall ? text.toLowerCase() : text;
  };
  const base = part(0, 8, flags & SMALL_BASE);
  const extension = part(8, 11, flags & SMALL_EXTENSION);
  return extension === '' ? base : `${base}.${extension}`;
}

function cp437(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => (byte < 128 ? String.fromCharCode(byte) : UPPER_HALF[byte - 128])).join('');
}

function fileOf(entry: Uint8Array, attributes: number, place: number): FatFile {
  const view = viewOf(entry);
  const isDirectory = (attributes & DIRECTORY) !== 0;
  const permissions = (isDirectory ? 0o40755 : 0o100644) & ((attributes & READ_ONLY) !== 0 ? ~0o222 : ~0);
  const firstCluster = view.getUint16(26, true) + (view.getUint16(20, true) << 16);
  return {
    kind: isDirectory ? 'directory' : 'file',
    // Directories are told apart by where they begin, so that one within itself is noticed.
    id: isDirectory ? firstCluster : -place,
    size: isDirectory ? 0 : view.getUint32(28, true),
    modified: timeOf(view.getUint16(24, true), view.getUint16(22, true)),
    mode: permissions,
    uid: undefined,
    gid: undefined,
    firstCluster,
  };
}

/** FAT has no time zones: as if it were UTC. */
function timeOf(date: number, time: number): number | undefined {
  if (date === 0) return undefined;
  const [year, month, day] = [1980 + (date >> 9), (date >> 5) & 15, date & 31];
  return Date.UTC(year, month - 1, day, time >> 11, (time >> 5) & 63, (time & 31) * 2);
}
