/** `corral bench`: how long many reads or writes of an image take. */

import { type CacheMode, isDirect } from '../../cache-mode.js';
import { cacheArgument, sizeArgument } from '../arguments.js';
import { Closers } from '../closers.js';
import { FORCE_SHARE, IMAGE, NO_BACKING } from '../common-options.js';
import { type Disk, openDisk } from '../disk.js';
import { flag, value } from '../option-table.js';
import { CommandError, reasonIn, type Terminal } from '../output.js';
import { defineVerb, oneOperand } from '../verb.js';

const DEFAULT_COUNT = 75_000;
const DEFAULT_DEPTH = 64;
const DEFAULT_SIZE = 4096;
const MAXIMUM = 2 ** 31 - 1;

interface Load {
  readonly count: number;
  readonly depth: number;
  readonly offset: number;
  readonly size: number;
  readonly step: number;
  readonly write: boolean;
  readonly pattern: number;
  readonly flushInterval: number;
}

export const bench = defineVerb({
  about:
    'Reads or writes many pieces of an image, several at a time, and says how long that took. -w overwrites the disk.',
  operands: 'FILE',
  options: {
    ...IMAGE,
    ...NO_BACKING,
    cache: value('-t, --cache CACHE', 'none, writeback, writethrough, directsync or unsafe', cacheMode),
    count: value('-c, --count COUNT', `requests (default: ${DEFAULT_COUNT})`, number('request count', 1)),
    depth: value('-d, --depth DEPTH', `requests at a time (default: ${DEFAULT_DEPTH})`, number('queue depth', 1)),
    offset: value('-o, --offset OFFSET', 'where the first one begins', (given) =>
      Number(sizeArgument(given, 'offset')),
    ),
    size: value('-s, --buffer-size SIZE', `bytes of one (default: ${DEFAULT_SIZE})`, bytes('buffer size', 1)),
    step: value('-S, --step-size SIZE', 'from one to the next (default: the size of one)', bytes('step size', 0)),
    write: flag('-w, --write', 'write'),
    pattern: value('--pattern BYTE', 'what is written', number('pattern byte', 0, 255)),
    flushInterval: value('--flush-interval COUNT', 'flush after so many requests', number('flush interval', 0)),
    noDrain: flag('--no-drain', 'do not wait for what is under way before a flush'),
    native: flag('-n, --native', 'of no effect here'),
    aio: value('-i, --aio AIO', 'threads, native or io_uring: of no effect here', (given) => {
      if (['threads', 'native', 'io_uring'].includes(given)) return given;
      throw new CommandError(`Invalid aio option: ${given}`);
    }),
    ...FORCE_SHARE,
    quiet: flag('-q, --quiet', 'of no effect, as with qemu-img'),
  },
  async run({ values, operands }, { terminal }) {
    const path = oneOperand(operands);
    const { write, flushInterval = 0, depth = DEFAULT_DEPTH } = values;
    if (!write && flushInterval > 0) throw new CommandError('--flush-interval is only available in write tests');
    if (flushInterval > 0 && flushInterval < depth) {
      throw new CommandError("Flush interval can't be smaller than depth");
    }
    const { count = DEFAULT_COUNT, offset = 0, size = DEFAULT_SIZE, pattern = 0 } = values;
    const load = { count, depth, offset, size, step: values.step || size, write, pattern, flushInterval };
    if ((values.native || values.aio === 'native') && !values.imageOpts && !isDirect(values.cache)) {
      const reason = 'aio=native was specified, but it requires cache.direct=on, which was not specified.';
      throw new CommandError(`Could not open '${path}': ${reason}`);
    }
    await using opened = new Closers();
    const disk = opened.add(await openDisk(path, { ...values, write, terminal }));
    await measure(disk, load, terminal);
  },
});

async function measure(disk: Disk, load: Load, terminal: Terminal): Promise<void> {
  const { count, depth, offset, size, step, write, flushInterval } = load;
  terminal.print(
    `Sending ${count} ${write ? 'write' : 'read'} requests, ${size} bytes each, ${depth} in parallel ` +
      `(starting at offset ${offset}, step size ${step})\n`,
  );
  if (flushInterval > 0) terminal.print(`Sending flush every ${flushInterval} requests\n`);
  const start = process.hrtime.bigint();
  try {
    await carryOut(disk, load);
  } catch (error) {
    throw new CommandError(`Failed request: ${reasonIn(disk.name.text, error)}`, 1, { cause: error });
  }
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  terminal.print(`Run completed in ${seconds.toFixed(3)} seconds.\n`);
}

async function carryOut(disk: Disk, load: Load): Promise<void> {
  const { count, depth, size, step, write, pattern, flushInterval } = load;
  if (size > disk.size) throw new CommandError('the image is smaller than one request');
  const range = disk.size - size;
  let [position, begun] = [load.offset, 0];
  const worker = async (): Promise<void> => {
    const buffer = new Uint8Array(size).fill(pattern);
    while (begun < count) {
      begun += 1;
      const isFlushed = flushInterval > 0 && begun % flushInterval === 0;
      const at = position;
      // As QEMU: where the first one begins is not looked at.
      const next = at + step;
      position = next > range ? (range === 0 ? 0 : next % range) : next;
      if (at > range) throw new CommandError('Input/output error');
      await (write ? disk.write(at, buffer) : disk.read(at, buffer));
      if (isFlushed) await disk.flush();
    }
  };
  await Promise.all(Array.from({ length: Math.min(depth, count) }, worker));
}

/** A whole number in QEMU's words when it is none. */
function number(what: string, minimum: number, maximum = MAXIMUM): (text: string) => number {
  return (text) => {
    if (!/^[+-]?(0x[0-9a-f]+|\d+)$/i.test(text)) throw new CommandError(`Invalid ${what} specified: '${text}'.`);
    return within(what, text.startsWith('-') ? -1 : Number(text), minimum, maximum);
  };
}

/** The same for bytes, which may have a suffix. */
function bytes(what: string, minimum: number): (text: string) => number {
  return (text) => within(what, /^-\d+$/.test(text) ? -1 : Number(sizeArgument(text, what)), minimum, MAXIMUM);
}

function within(what: string, value: number, minimum: number, maximum: number): number {
  if (value >= minimum && value <= maximum) return value;
  throw new CommandError(`Invalid ${what} specified. Must be between ${minimum} and ${maximum}.`);
}

function cacheMode(text: string): CacheMode {
  try {
    return cacheArgument(text, 'cache');
  } catch (error) {
    throw new CommandError('Invalid cache mode', 1, { cause: error });
  }
}
