/** What is noted of a device that shall outlive its server: how to serve it again. */
import { resolve } from 'node:path';
import { CorralError } from '../errors.js';
import { readRunFile, removeRunFile, writeRunFile } from './run-folder.js';
import { type CheckedOptions, checkOptions, type UblkDeviceOptions } from './ublk-options.js';

/** Of the file's form. */
const VERSION = 1;

export interface UblkRecord {
  /** The driver keeps it with the device: a number that was given again belongs to another device. */
  readonly mark: number;
  /** Absolute. */
  readonly image: string;
  /** Where the server ran: names in the image may be relative to it. */
  readonly folder: string;
  readonly options: UblkDeviceOptions;
}

/** A number that no other device has. */
export function newMark(): number {
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2));
  return (high % 2 ** 20) * 2 ** 32 + low + 1;
}

export async function writeRecord(
  id: number,
  mark: number,
  image: string,
  options: CheckedOptions,
  folder = process.cwd(),
): Promise<void> {
  const record: UblkRecord = { mark, image: resolve(image), folder, options };
  await writeRunFile(fileName(id), `${JSON.stringify({ version: VERSION, ...record })}\n`);
}

export async function removeRecord(id: number): Promise<void> {
  await removeRunFile(fileName(id));
}

/**
 * What is known of the device with this number and mark.
 *
 * @throws CorralError ERR_NOT_FOUND when nothing is, ERR_PERMISSION when the file is not to be trusted
 */
export async function readRecord(id: number, mark: number): Promise<UblkRecord> {
  const text = await readRunFile(fileName(id));
  const record = text === undefined ? undefined : parse(text);
  if (record !== undefined && record.mark === mark) return record;
  throw new CorralError('ERR_NOT_FOUND', {
    path: `/dev/ublkb${id}`,
    reason: 'Nothing is known of its image: another program made it, or its record is gone',
  });
}

function parse(text: string): UblkRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { version, mark, image, folder, options } = (value ?? {}) as Partial<UblkRecord> & { version?: unknown };
  const good = version === VERSION && typeof mark === 'number' && typeof image === 'string';
  if (!good || typeof folder !== 'string' || typeof options !== 'object') return undefined;
  checkOptions(options);
  return { mark, image, folder, options };
}

function fileName(id: number): string {
  return `ublkb${id}.json`;
}
