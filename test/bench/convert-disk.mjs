/**
 * A disk of mixed real data: the files of this machine one behind the other, each from a new block on as in a file
 * system, with zeros that are written and holes that are not. Nothing of it is stored.
 */
import { closeSync, ftruncateSync, openSync, readdirSync, readFileSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const BLOCK = 4096;
const MIB = 1024 * 1024;
/** Of so many MiB, the first ones are data, then come zeros, then a hole. */
const PERIOD = { data: 48, zeros: 6, hole: 10 };
const LARGEST_FILE = 64 * MIB;

/**
 * Writes the disk. Its bytes are the same for the same files and size.
 *
 * @param {string} path
 * @param {number} size bytes
 * @param {string} [source] the folder whose files are taken
 */
export function makeMixedDisk(path, size, source = '/usr') {
  const descriptor = openSync(path, 'w');
  ftruncateSync(descriptor, size);
  const bytes = blocksOf(source);
  for (let start = 0; start < size; start += (PERIOD.data + PERIOD.zeros + PERIOD.hole) * MIB) {
    const dataEnd = Math.min(size, start + PERIOD.data * MIB);
    for (let offset = start; offset < dataEnd; offset += MIB) {
      writeSync(descriptor, takeBytes(bytes, Math.min(MIB, dataEnd - offset)), 0, null, offset);
    }
    const zeros = Math.max(0, Math.min(size, dataEnd + PERIOD.zeros * MIB) - dataEnd);
    writeSync(descriptor, Buffer.alloc(zeros), 0, zeros, dataEnd);
  }
  closeSync(descriptor);
}

/**
 * @param {Generator<Buffer>} pieces
 * @param {number} length
 */
function takeBytes(pieces, length) {
  const taken = Buffer.alloc(length);
  for (let done = 0; done < length; ) {
    const { value, done: ended } = pieces.next(length - done);
    if (ended || value === undefined) throw new Error('there are not enough files');
    done += value.copy(taken, done);
  }
  return taken;
}

/**
 * The files' bytes in whole blocks, over and over; `next(n)` gives n bytes at most.
 *
 * @param {string} folder
 * @returns {Generator<Buffer, void, number>}
 */
function* blocksOf(folder) {
  /** @type {number} */
  let wanted = yield Buffer.alloc(0);
  while (true) {
    for (const path of filesIn(folder)) {
      const content = readFileSync(path);
      const file = Buffer.alloc(Math.ceil(content.length / BLOCK) * BLOCK);
      content.copy(file);
      for (let done = 0; done < file.length; ) {
        const piece = file.subarray(done, done + wanted);
        done += piece.length;
        wanted = yield piece;
      }
    }
  }
}

/**
 * @param {string} folder
 * @returns {Generator<string>}
 */
function* filesIn(folder) {
  const entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(folder, entry.name);
    try {
      if (entry.isDirectory()) yield* filesIn(path);
      else if (entry.isFile() && statSync(path).size <= LARGEST_FILE && statSync(path).size > 0) yield path;
    } catch {
      // Not ours to read.
    }
  }
}
