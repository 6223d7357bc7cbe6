/** `write`, `writev`, `aio_write`. */

import { readFileSync } from 'node:fs';
import { systemErrorCode } from '../../../errors.js';
import { requestErrorText } from '../../errno-text.js';
import type { Command } from '../command.js';
import type { Disk } from '../disk.js';
import { CommandFailure } from '../failures.js';
import type { Session } from '../session.js';
import { patternArgument } from '../values.js';
import { buffersOperands, diskOf, optionMap, perform, rangeOperands, type Telling, wholeSectors } from './transfer.js';

const DEFAULT_PATTERN = 0xcd;

type Options = ReadonlyMap<string, string>;

export const write: Command = {
  name: 'write',
  short: 'w',
  usage: '[-bcCfnqruz] [-P pattern | -s source_file] off len',
  about: 'writes a number of bytes at a specified offset',
  help: ` -b: into the VM state; -c: compressed, where nothing is yet; -C: numbers for programs; -f: durable when it ends;
 -P: this byte (else 0xcd); -q: no line about the end; -s: the bytes of a file over and over; -z: zeros, without bytes;
 -u with -z: clusters may be freed; -n with -z: of any length. -p and -r are taken and change nothing.

 'write -P 5 512 1k' fills the third and fourth sector.`,
  letters: 'bcCfnpP:qrs:uz',
  count: [2],
  needs: 'write',
  run: (session, words) => {
    const options = optionMap(words);
    const pattern = patternOption(options);
    const { offset, length } = writeRange(words.operands, options);
    const telling = tellingOf('write', offset, length, options);
    if (options.has('z')) return perform(session, telling, () => writeZeroes(diskOf(session), telling, options));
    const source = options.has('s') ? sourceBytes(options.get('s') as string, length) : filled(length, pattern);
    return perform(session, telling, () => writeBytes(diskOf(session), offset, source, options));
  },
};

export const writev: Command = {
  name: 'writev',
  usage: '[-Cfqr] [-P pattern] off len [len..]',
  about: 'writes a number of bytes at a specified offset',
  help: ` One request out of several buffers. -C: numbers for programs; -f: durable when it ends; -P: this byte (else 0xcd);
 -q: no line about the end.`,
  letters: 'CfqrP:',
  count: [2],
  needs: 'write',
  run: (session, words) => {
    const options = optionMap(words);
    const pattern = patternOption(options);
    const { offset, length } = buffersOperands(words.operands);
    const source = filled(length, pattern);
    const telling = tellingOf('writev', offset, length, options);
    return perform(session, telling, () => writeBytes(diskOf(session), offset, source, options));
  },
};

export const aioWrite: Command = {
  name: 'aio_write',
  usage: '[-Cfiqruz] [-P pattern] off len [len..]',
  about: 'asynchronously writes a number of bytes',
  help: ` As writev, while the next commands run; aio_flush waits for the end. That the request fails is printed, and is no failure
 of the command. -z: zeros, without bytes; -u with -z: clusters may be freed; -i: only says that the request is not valid.`,
  letters: 'CfiP:qruz',
  count: [2],
  needs: 'write',
  run: (session, words) => {
    const options = optionMap(words);
    const pattern = patternOption(options);
    if (options.has('i')) {
      session.output.print('injecting invalid write request\n');
      return true;
    }
    const zeroes = options.has('z');
    if (zeroes && words.operands.length !== 2) throw new CommandFailure('-z supports only a single length parameter');
    if (options.has('u') && !zeroes) throw new CommandFailure('-u requires -z to be specified');
    startWriting(session, words.operands, pattern, options);
    return true;
  },
};

function startWriting(session: Session, operands: readonly string[], pattern: number, options: Options): void {
  const disk = diskOf(session);
  const { offset, length } = buffersOperands(operands);
  const telling = tellingOf('aio_write', offset, length, options);
  const source = filled(options.has('z') ? 0 : length, pattern);
  const work = options.has('z')
    ? () => writeZeroes(disk, telling, options)
    : () => writeBytes(disk, offset, source, options);
  session.start(perform(session, telling, work).then(() => {}));
}

/** Which options go together, and with what range. */
function writeRange(operands: readonly string[], options: Options): { offset: number; length: number } {
  const has = (letter: string): boolean => options.has(letter);
  const refuse = (reason: string): never => {
    throw new CommandFailure(reason);
  };
  if (operands.length !== 2) rangeOperands(operands, undefined);
  if (has('b') && has('z')) refuse('-b and -z cannot be specified at the same time');
  if (has('f') && (has('b') || has('c'))) refuse('-f and -b or -c cannot be specified at the same time');
  if (has('n') && !has('z')) refuse('-n requires -z to be specified');
  if (has('u') && !has('z')) refuse('-u requires -z to be specified');
  if (Number(has('z')) + Number(has('P')) + Number(has('s')) > 1) {
    refuse('Only one of -z, -P, and -s can be specified at the same time');
  }
  const { offset, length } = rangeOperands(operands, has('n') ? undefined : ' without -n');
  if (has('b') || has('c')) {
    wholeSectors(offset, 'offset');
    wholeSectors(length, 'count');
  }
  if (has('z') && has('r')) refuse('cannot combine zero write with registered I/O buffer');
  return { offset, length };
}

function tellingOf(failure: string, offset: number, length: number, options: Options): Telling {
  return { verb: 'wrote', failure, offset, length, quiet: options.has('q'), terse: options.has('C') };
}

function patternOption(options: Options): number {
  const text = options.get('P');
  return text === undefined ? DEFAULT_PATTERN : patternArgument(text);
}

function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

/** The bytes of a file, repeated. */
function sourceBytes(path: string, length: number): Uint8Array {
  const pattern = readSource(path);
  if (pattern.length === 0) throw new CommandFailure(`${path}: file is empty`, 'error');
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; done += pattern.length) bytes.set(pattern.subarray(0, length - done), done);
  return bytes;
}

function readSource(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    throw new CommandFailure(`${path}: ${requestErrorText(error)}`, 'error');
  }
}

async function writeBytes(disk: Disk, offset: number, source: Uint8Array, options: Options): Promise<void> {
  // Compressed or not: QEMU looks at -b first, too.
  if (options.has('b')) await disk.writeVmState(offset, source);
  else if (options.has('c')) await disk.writeCompressed(offset, source);
  else await disk.write(offset, source, { durable: options.has('f') });
}

function writeZeroes(disk: Disk, { offset, length }: Telling, options: Options): Promise<void> {
  return disk.writeZeroes(offset, length, { unmap: options.has('u'), durable: options.has('f') });
}
