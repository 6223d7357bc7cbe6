// Changes a file, or a block device, at random and knows what must be in it: writes, holes, zeros and, of a file, its length.
// What is read back is compared, from the disk when it can be.
//
// usage: node file-model.mjs FILE MIB ROUNDS SEED
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readSync, statSync } from 'node:fs';

const [path, mebibytes, rounds, seed] = process.argv.slice(2);
const capacity = Number(mebibytes) * 2 ** 20;
const isDevice = statSync(path).isBlockDevice();
/** Changes between two looks at all of it. */
const CHANGES = 60;
const LONGEST = 192 << 10;
const SECTOR = 512;

let state = Number(seed) >>> 0;
const random = (below) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
const model = Buffer.alloc(capacity);
let length = isDevice ? capacity : 0;

/** A place and a length; of a device whole sectors. Most begin near those before: what is next to each other is what breaks. */
let last = 0;
function range(limit) {
  const near = random(3) === 0 ? random(limit) : (last + random(LONGEST)) % limit;
  const unit = isDevice ? SECTOR : 1;
  const offset = Math.floor(Math.min(near, limit - unit) / unit) * unit;
  const wanted = Math.ceil((1 + random(LONGEST)) / unit) * unit;
  last = offset;
  return [offset, Math.min(wanted, limit - offset)];
}

/** One command of xfs_io, done to the model too. */
function change() {
  const kind = random(10);
  if (kind < 6 || length === 0) {
    const [offset, count] = range(capacity);
    const value = 1 + random(255);
    model.fill(value, offset, offset + count);
    length = Math.max(length, offset + count);
    return `pwrite -q -S ${value} -b 1m ${offset} ${count}`;
  }
  if (kind === 9 && !isDevice) {
    const size = random(capacity);
    if (size < length) model.fill(0, size, length);
    length = size;
    return `truncate ${size}`;
  }
  const [offset, count] = range(length);
  model.fill(0, offset, offset + count);
  return `${kind === 6 ? 'fzero -k' : 'fpunch'} ${offset} ${count}`;
}

function verify(round, commands) {
  const found = Buffer.alloc(length);
  const file = openSync(path, 'r');
  if (!isDevice) assert.equal(statSync(path).size, length, `round ${round}: the length`);
  for (let done = 0; done < length; ) {
    const count = readSync(file, found, done, length - done, done);
    assert.notEqual(count, 0, `round ${round}: the end is at ${done}`);
    done += count;
  }
  closeSync(file);
  if (found.equals(model.subarray(0, length))) return;
  const place = found.findIndex((byte, index) => byte !== model[index]);
  assert.fail(
    `seed ${seed}, round ${round}: ${found[place]} instead of ${model[place]} at ${place}\n${commands.join('\n')}`,
  );
}

for (let round = 1; round <= Number(rounds); round++) {
  const commands = Array.from({ length: CHANGES }, change);
  const script = [...commands, 'fsync', 'fadvise -d 0 0'];
  const { status, stderr, stdout } = spawnSync('xfs_io', [path], {
    input: `${script.join('\n')}\nquit\n`,
    encoding: 'utf8',
  });
  assert.equal(status, 0, `${stdout}${stderr}`);
  assert.equal(stderr, '', stderr);
  verify(round, commands);
}
console.log(`seed ${seed}: ${rounds} rounds of ${CHANGES} changes, ${length} bytes as they must be`);
