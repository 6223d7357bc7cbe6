/**
 * Names that stand in an image. They are bytes of a stranger's: nothing here asks the system whether such a file exists,
 * so that nobody can find out by asking us.
 */

import type { Findings } from './findings.js';
import type { RuleId } from './rules.js';

/** A text of the image: the bytes, and what they look like. */
export interface ImageText {
  /** Printable ASCII; everything else as `\xNN` for each byte. */
  readonly text: string;
  readonly bytesBase64: string;
}

/** A file that the image names. Unless it is followed it was not opened, and nobody asked whether it is there. */
export interface Reference {
  readonly kind: 'backing-file' | 'data-file' | 'extent-file' | 'parent';
  /** Undefined when the image has a reference, but no name for it. */
  readonly name: ImageText | undefined;
  /** What stands before the first colon, when that is a protocol. */
  readonly scheme: string | undefined;
  /** The rules of names that it broke. */
  readonly classes: readonly RuleId[];
  readonly format: ImageText | undefined;
  /** It is allowed, and was inspected. */
  readonly followed: boolean;
}

/** Longest text that a report shows of one name. */
const LONGEST = 1024;

export function imageText(bytes: Uint8Array): ImageText {
  const shown = bytes.subarray(0, LONGEST);
  return { text: escapeBytes(shown), bytesBase64: base64(shown) };
}

function escapeBytes(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) {
    const printable = byte >= 0x20 && byte < 0x7f && byte !== 0x5c;
    text += printable ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return text;
}

function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

/** Where a name stands in the file, in bytes. */
interface Place {
  readonly offset: number;
  readonly length: number;
}

/** Notes what is wrong with the name of a file, and returns how it is reported. */
export function judgeReference(
  findings: Findings,
  kind: Reference['kind'],
  name: Uint8Array | undefined,
  place: Place,
  { format, followed = false }: { format?: Uint8Array | undefined; followed?: boolean } = {},
): Reference {
  // What the owner allows is allowed wherever it lies.
  const classes = name === undefined || followed ? [] : classesOf(name);
  for (const id of classes) findings.add(id, `The name of the ${kind}: ${CLASS_MESSAGES[id]}`, place);
  return {
    kind,
    name: name === undefined ? undefined : imageText(name),
    scheme: name === undefined ? undefined : schemeOf(name),
    classes,
    format: format === undefined ? undefined : imageText(format),
    followed,
  };
}

const CLASS_MESSAGES: Readonly<Partial<Record<RuleId, string>>> = {
  'ref.name-protocol': 'begins with a protocol',
  'ref.name-absolute': 'is an absolute path',
  'ref.name-traversal': 'leads to a folder above',
  'ref.name-device': 'is a device, a process or a share of the network',
  'ref.name-control-chars': 'contains control characters',
  'ref.name-not-utf8': 'is no UTF-8',
  'ref.name-nul': 'contains a zero byte',
};

function classesOf(bytes: Uint8Array): RuleId[] {
  const name = latin1(bytes);
  const path = name.replace(/^[a-z][a-z0-9+.-]*:(\/\/)?/i, '');
  const classes: [RuleId, boolean][] = [
    ['ref.name-protocol', schemeOf(bytes) !== undefined],
    ['ref.name-absolute', /^[/\\]/.test(path) || /^[a-z]:[/\\]/i.test(name)],
    ['ref.name-traversal', path.split(/[/\\]/).includes('..')],
    ['ref.name-device', /^\/+(dev|proc|sys|run)(\/|$)/.test(path) || /^\\\\/.test(name)],
    ['ref.name-control-chars', /[\x01-\x1f\x7f]/.test(name) || hasDeceivingText(bytes)],
    ['ref.name-not-utf8', !isUtf8(bytes)],
    ['ref.name-nul', name.includes('\0')],
  ];
  return classes.filter(([, applies]) => applies).map(([id]) => id);
}

/** A protocol as QEMU takes it: a colon before any slash. One letter is a drive. */
function schemeOf(bytes: Uint8Array): string | undefined {
  return /^([a-z][a-z0-9+.-]+):/i.exec(latin1(bytes))?.[1]?.toLowerCase();
}

/** Whether a terminal that gets this text does something else than show it. */
export function hasDeceivingText(bytes: Uint8Array): boolean {
  return /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(new TextDecoder().decode(bytes.slice()));
}

function isUtf8(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes.slice());
    return true;
  } catch {
    return false;
  }
}

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
