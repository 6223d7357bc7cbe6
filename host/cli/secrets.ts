/** `--object secret,…`: passwords and keys that options of images name by their id, and objects that have no effect here. */

import { readFileSync } from 'node:fs';
import { optionPairs } from './arguments.js';
import { isJsonText, parseJsonObject } from './json-text.js';
import { CommandError, reasonOf } from './output.js';
import { decryptSecret } from './secret-cipher.js';

/** What an object is, and what it is told. */
type Settings = Map<string, string>;

/** The options of the objects that can be made. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  secret: ['data', 'file', 'format', 'iv', 'keyid'],
  // Limits are of those who name the group, and nobody here does.
  'throttle-group': ['limits', 'x-'],
};
const SECRET_HELP = 'secret options:\n  data=<string>\n  file=<string>\n  format=<raw or base64>\n';
const KINDS_HELP = `List of user creatable objects:\n${Object.keys(KINDS)
  .map((kind) => `  ${kind}\n`)
  .join('')}`;

/** What `--object help` and `--object KIND,help` print; undefined for what is no such question. */
export function objectHelp(object: string): string | undefined {
  const [kind, ...rest] = object.split(',');
  if (kind === 'help' || kind === '?') return KINDS_HELP;
  return kind === 'secret' && rest.includes('help') ? SECRET_HELP : undefined;
}

/** The secrets by their ids. Throws `CommandError` in QEMU's words. */
export function readSecrets(objects: readonly string[]): ReadonlyMap<string, Uint8Array> {
  const secrets = new Map<string, Uint8Array>();
  const ids = new Set<string>();
  for (const object of objects) {
    const settings = isJsonText(object) ? jsonSettings(object) : listedSettings(object);
    const kind = takeSetting(settings, 'qom-type');
    if (!Object.hasOwn(KINDS, kind)) throw new CommandError(`Parameter 'qom-type' does not accept value '${kind}'`);
    const id = takeSetting(settings, 'id');
    checkId(id);
    if (ids.has(id)) throw new CommandError(`attempt to add duplicate property '${id}' to object (type 'container')`);
    ids.add(id);
    const known = KINDS[kind] as readonly string[];
    for (const name of settings.keys()) {
      if (!known.some((each) => each === name || (each.endsWith('-') && name.startsWith(each)))) {
        throw new CommandError(`Parameter '${name}' is unexpected`);
      }
    }
    if (kind === 'secret')
      secrets.set(
        id,
        secretOf(settings, (key) => keyOf(key, secrets, ids)),
      );
  }
  return secrets;
}

function takeSetting(settings: Settings, name: string): string {
  const value = settings.get(name);
  if (value === undefined) throw new CommandError(`Parameter '${name}' is missing`);
  settings.delete(name);
  return value;
}

/** `secret,id=a` or `qom-type=secret,id=a`. */
function listedSettings(object: string): Settings {
  const [first = ''] = object.split(',');
  const whole = first === '' || first.includes('=') ? object : `qom-type=${object}`;
  const bare = whole
    .replaceAll(',,', '')
    .split(',')
    .find((item) => item !== '' && !item.includes('='));
  if (bare !== undefined) throw new CommandError(`Expected '=' after parameter '${bare}'`);
  return new Map(optionPairs(whole));
}

function jsonSettings(object: string): Settings {
  const settings: Settings = new Map();
  for (const [name, value] of Object.entries(parseJsonObject(object))) {
    if (typeof value !== 'string') throw new CommandError(`Invalid parameter type for '${name}', expected: string`);
    settings.set(name, value);
  }
  return settings;
}

function checkId(id: string): void {
  if (/^[A-Za-z][A-Za-z0-9\-._]*$/.test(id)) return;
  throw new CommandError("Parameter 'id' expects an identifier", 1, {
    hints: ["Identifiers consist of letters, digits, '-', '.', '_', starting with a letter."],
  });
}

function bytesOf(settings: Settings): Uint8Array {
  const [data, file] = [settings.get('data'), settings.get('file')];
  if (data !== undefined && file !== undefined) {
    throw new CommandError("'file' and 'data' are mutually exclusive");
  }
  if (data !== undefined) return Buffer.from(data);
  if (file === undefined) throw new CommandError("Either 'file' or 'data' must be provided");
  try {
    return readFileSync(file);
  } catch (error) {
    const reason = `Unable to read ${file}: Failed to open file “${file}”: ${reasonOf(error)}`;
    throw new CommandError(reason, 1, { cause: error });
  }
}

/** @param keyById the secret by whose id another one is decrypted */
function secretOf(settings: Settings, keyById: (id: string) => Uint8Array): Uint8Array {
  const format = settings.get('format') ?? 'raw';
  if (format !== 'raw' && format !== 'base64') {
    throw new CommandError(`Parameter 'format' does not accept value '${format}'`);
  }
  const bytes = bytesOf(settings);
  const keyId = settings.get('keyid');
  const decoded = (): Uint8Array => (format === 'raw' ? bytes : fromBase64(bytes));
  if (keyId === undefined) return decoded();
  const [key, ivText] = [keyById(keyId), settings.get('iv')];
  const iv = ivText === undefined ? undefined : fromBase64(Buffer.from(ivText));
  return decryptSecret(decoded, key, iv);
}

/** Of those that were given before. */
function keyOf(id: string, secrets: ReadonlyMap<string, Uint8Array>, ids: ReadonlySet<string>): Uint8Array {
  const key = secrets.get(id);
  if (key !== undefined) return key;
  throw new CommandError(ids.has(id) ? `Object with id '${id}' is not a secret` : `No secret with id '${id}'`);
}

function fromBase64(bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1').trim();
  if (!/^[A-Za-z0-9+/\s]*={0,2}$/.test(text)) throw new CommandError('Base64 data contains invalid characters');
  return Buffer.from(text, 'base64');
}
