/** `--object secret,…`: passwords and keys that options of images name by their id. */

import { readFileSync } from 'node:fs';
import { optionPairs } from './arguments.js';
import { CommandError, reasonOf } from './output.js';

/** The secrets by their ids. Throws `CommandError` in QEMU's words. */
export function readSecrets(objects: readonly string[]): ReadonlyMap<string, Uint8Array> {
  const secrets = new Map<string, Uint8Array>();
  for (const object of objects) {
    const [[type = '', implied] = [], ...rest] = optionPairs(object);
    const kind = type === 'qom-type' ? implied : type;
    if (kind !== 'secret') throw new CommandError(`Parameter 'qom-type' does not accept value '${kind}'`);
    const options = new Map(rest);
    const id = options.get('id');
    if (id === undefined) throw new CommandError("Parameter 'id' is missing");
    if (secrets.has(id))
      throw new CommandError(`attempt to add duplicate property '${id}' to object (type 'container')`);
    for (const name of options.keys()) {
      if (!['id', 'data', 'file', 'format'].includes(name)) throw new CommandError(`Parameter '${name}' is unexpected`);
    }
    secrets.set(id, decoded(bytesOf(options), options.get('format') ?? 'raw'));
  }
  return secrets;
}

function bytesOf(options: ReadonlyMap<string, string>): Uint8Array {
  const [data, file] = [options.get('data'), options.get('file')];
  if (data !== undefined && file !== undefined) {
    throw new CommandError("'file' and 'data' are mutually exclusive");
  }
  if (data !== undefined) return Buffer.from(data);
  if (file === undefined) throw new CommandError("Either 'file' or 'data' must be provided");
  try {
    return readFileSync(file);
  } catch (error) {
    throw new CommandError(`Failed to open file “${file}”: ${reasonOf(error)}`, 1, { cause: error });
  }
}

function decoded(bytes: Uint8Array, format: string): Uint8Array {
  if (format === 'raw') return bytes;
  if (format !== 'base64') throw new CommandError(`Parameter 'format' does not accept value '${format}'`);
  const text = Buffer.from(bytes).toString('latin1').trim();
  if (!/^[A-Za-z0-9+/\s]*={0,2}$/.test(text)) {
    throw new CommandError(`Base64 data '${text}' is not valid`);
  }
  return Buffer.from(text, 'base64');
}
