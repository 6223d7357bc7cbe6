/** `read`, `readv`, `aio_read`. */

import type { Command } from '../command.js';
import { CommandFailure, UsageFailure } from '../failures.js';
import { dumpText } from '../report.js';
import type { Session } from '../session.js';
import { numberArgument, patternArgument } from '../values.js';
import { buffersOperands, diskOf, optionMap, perform, rangeOperands, wholeSectors } from './transfer.js';

/** The part of the bytes that has to consist of one value. */
interface Pattern {
  readonly value: number;
  readonly start: number;
  readonly length: number;
}

interface Reading {
  readonly failure: string;
  readonly offset: number;
  readonly length: number;
  readonly pattern: Pattern | undefined;
  readonly options: ReadonlyMap<string, string>;
}

export const read: Command = {
  name: 'read',
  short: 'r',
  usage: '[-abCqrv] [-P pattern [-s off] [-l len]] off len',
  about: 'reads a number of bytes at a specified offset',
  help: ` -b: from the VM state; -C: numbers for programs; -P: every byte has to be this one, of those from -s on, -l many;
 -q: no line about the end; -v: the bytes are printed. -p and -r are taken and change nothing.

 'read -v 512 1k' prints the third and fourth sector.`,
  letters: 'bCl:pP:qrs:v',
  count: [2],
  needs: 'read',
  run: (session, words) => {
    const options = optionMap(words);
    const value = options.has('P') ? patternArgument(options.get('P') as string) : undefined;
    const [start, count] = ['s', 'l'].map((letter) => optionalNumber(options.get(letter)));
    if (value === undefined && (start !== undefined || count !== undefined)) throw new UsageFailure();
    const { offset, length } = rangeOperands(words.operands, '');
    if (options.has('b')) {
      wholeSectors(offset, 'offset');
      wholeSectors(length, 'count');
    }
    const pattern = value === undefined ? undefined : patternWithin(length, value, start ?? 0, count);
    return carryOut(session, { failure: 'read', offset, length, pattern, options });
  },
};

export const readv: Command = {
  name: 'readv',
  usage: '[-Cqrv] [-P pattern] off len [len..]',
  about: 'reads a number of bytes at a specified offset',
  help: ` One request for several buffers. -C: numbers for programs; -P: every byte has to be this one; -q: no line about the end;
 -v: the bytes are printed.`,
  letters: 'CP:qrv',
  count: [2],
  needs: 'read',
  run: (session, words) => {
    const options = optionMap(words);
    const value = options.has('P') ? patternArgument(options.get('P') as string) : undefined;
    const { offset, length } = buffersOperands(words.operands);
    const pattern = value === undefined ? undefined : { value, start: 0, length };
    return carryOut(session, { failure: 'readv', offset, length, pattern, options });
  },
};

export const aioRead: Command = {
  name: 'aio_read',
  usage: '[-Ciqrv] [-P pattern] off len [len..]',
  about: 'asynchronously reads a number of bytes',
  help: ` As readv, while the next commands run; aio_flush waits for the end. That the request fails is printed, and is no failure
 of the command. -i: only says that the request is not valid.`,
  letters: 'CiP:qrv',
  count: [2],
  needs: 'read',
  run: (session, words) => {
    const options = optionMap(words);
    const value = options.has('P') ? patternArgument(options.get('P') as string) : undefined;
    if (options.has('i')) {
      session.output.print('injecting invalid read request\n');
      return true;
    }
    const { offset, length } = buffersOperands(words.operands);
    const pattern = value === undefined ? undefined : { value, start: 0, length };
    session.start(carryOut(session, { failure: 'readv', offset, length, pattern, options }).then(() => {}));
    return true;
  },
};

function optionalNumber(text: string | undefined): number | undefined {
  return text === undefined ? undefined : numberArgument(text);
}

function patternWithin(length: number, value: number, start: number, count: number | undefined): Pattern {
  // A length of nothing means all that is left.
  const checked = count || length - start;
  if (checked < 0 || start + checked > length) {
    throw new CommandFailure('pattern verification range exceeds end of read data');
  }
  return { value, start, length: checked };
}

async function carryOut(session: Session, { failure, offset, length, pattern, options }: Reading): Promise<boolean> {
  const { output } = session;
  const disk = diskOf(session);
  const buffer = new Uint8Array(length);
  const telling = { verb: 'read', failure, offset, length, quiet: options.has('q'), terse: options.has('C') };
  const judge = (): boolean => {
    const right = pattern === undefined || consistsOf(buffer, pattern);
    if (pattern !== undefined && !right) {
      output.print(`Pattern verification failed at offset ${offset + pattern.start}, ${pattern.length} bytes\n`);
    }
    if (options.has('v') && !options.has('q')) output.print(dumpText(buffer, offset));
    return right;
  };
  return perform(
    session,
    telling,
    () => (options.has('b') ? disk.readVmState(offset, buffer) : disk.read(offset, buffer)),
    judge,
  );
}

function consistsOf(bytes: Uint8Array, { value, start, length }: Pattern): boolean {
  return bytes.subarray(start, start + length).every((byte) => byte === value);
}
