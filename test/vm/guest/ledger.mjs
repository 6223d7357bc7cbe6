// Writes to a device and keeps a ledger, elsewhere, of what became durable; later says whether all of that is there.
//
// usage: node ledger.mjs write|verify DEVICE LEDGER MIB
//
// Places are chosen at random in the first MIB of the device, so that they are written more than once. A line
// "place sequence" is in the ledger when the write has returned from a descriptor with O_DSYNC. One write is under way
// at a time; so a place may hold the last write that the ledger has of it, or the one that was interrupted by the end: of
// the device, which the ledger's last line tells, or of the writer, which came no further than to begin the next one.
import { closeSync, constants, openSync, readFileSync, readSync, writeSync } from 'node:fs';

const BLOCK_SIZE = 4096;
const [verb, device, ledger, mebibytes] = process.argv.slice(2);
const placeCount = (Number(mebibytes) * 2 ** 20) / BLOCK_SIZE;

/** A block that tells its place and sequence in every 16 bytes, so that a torn one cannot pass. */
function fill(block, place, sequence) {
  for (let offset = 0; offset < BLOCK_SIZE; offset += 16) {
    block.writeUInt32LE(place, offset);
    block.writeUInt32LE(sequence, offset + 4);
    block.writeUInt32LE((place * 2654435761 + sequence * 40503 + offset) >>> 0, offset + 8);
    block.writeUInt32LE(~sequence >>> 0, offset + 12);
  }
  return block;
}

/** The places of all writes, in their order. */
function* places() {
  let random = 12345;
  while (true) {
    random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
    yield (random >>> 8) % placeCount;
  }
}

function write() {
  const target = openSync(device, constants.O_WRONLY | constants.O_DSYNC);
  const record = openSync(ledger, 'w');
  const block = Buffer.alloc(BLOCK_SIZE);
  let sequence = 0;
  for (const place of places()) {
    sequence++;
    try {
      writeSync(target, fill(block, place, sequence), 0, BLOCK_SIZE, place * BLOCK_SIZE);
    } catch (error) {
      // The device went away, as it was meant to; the ledger's last line says which write this was.
      writeSync(record, `${place} ${sequence} interrupted by ${error.code}\n`);
      return;
    }
    writeSync(record, `${place} ${sequence}\n`);
  }
}

function verify() {
  const allowed = new Map();
  const lines = readFileSync(ledger, 'utf8').trim().split('\n');
  const next = places();
  for (const line of lines) {
    const [place, sequence, interrupted] = line.split(' ').map((word, index) => (index < 2 ? Number(word) : word));
    if (place !== next.next().value) throw new Error(`the ledger is not of this writer: ${line}`);
    const last = allowed.get(place)?.at(-1);
    allowed.set(place, interrupted === undefined ? [sequence] : [last ?? 0, sequence]);
  }
  if (!lines.at(-1).includes('interrupted')) {
    const place = next.next().value;
    allowed.set(place, [allowed.get(place)?.at(-1) ?? 0, lines.length + 1]);
  }
  const source = openSync(device, 'r');
  const block = Buffer.alloc(BLOCK_SIZE);
  const expected = Buffer.alloc(BLOCK_SIZE);
  let wrong = 0;
  for (const [place, sequences] of allowed) {
    readSync(source, block, 0, BLOCK_SIZE, Number(place) * BLOCK_SIZE);
    const good = sequences.some((sequence) =>
      // Sequence 0: never written, and the image is new.
      block.equals(sequence === 0 ? expected.fill(0) : fill(expected, Number(place), sequence)),
    );
    if (good) continue;
    wrong++;
    console.error(`block ${place}: found write ${block.readUInt32LE(4)}, expected ${sequences.join(' or ')}`);
  }
  closeSync(source);
  console.log(`${allowed.size} blocks verified, ${wrong} wrong`);
  return wrong;
}

process.exitCode = verb === 'write' ? write() : verify() === 0 ? 0 : 1;
