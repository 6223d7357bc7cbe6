/**
 * Which files an image may name without being rejected for it. Decided by letters alone: whether a file is there, or what
 * a link leads to, is never asked.
 */

/** What the owner of the images allows. */
export interface AllowedReferences {
  /** Absolute paths: `*` and `?` stand for letters of one name, `**` for whole folders, too. */
  readonly patterns: readonly string[];
  /** Absolute path of the image: relative names of backing files begin in its folder. */
  readonly path: string;
}

/**
 * The absolute path of an allowed name; undefined for every other one. Never allowed are names with a protocol, control
 * characters or bytes that are no UTF-8, and relative names of data files: QEMU reads those from where it was started.
 */
export function allowedPath(
  kind: 'backing-file' | 'data-file',
  name: Uint8Array,
  { patterns, path }: AllowedReferences,
): string | undefined {
  const text = plainText(name);
  if (text === undefined || text === '' || /^[^/]*:/.test(text)) return undefined;
  if (!text.startsWith('/') && kind === 'data-file') return undefined;
  const named = text.startsWith('/') ? text : `${path.slice(0, path.lastIndexOf('/') + 1)}${text}`;
  const resolved = withoutDots(named);
  return isAllowedPath(resolved, patterns) ? resolved : undefined;
}

/** Whether one of the patterns is that of an absolute path. */
export function isAllowedPath(path: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => expressionOf(withoutDots(pattern)).test(path));
}

function plainText(name: Uint8Array): string | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(name.slice());
    return /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

/** An absolute path without `.`, `..` and empty names. */
function withoutDots(path: string): string {
  const names: string[] = [];
  for (const name of path.split('/')) {
    if (name === '..') names.pop();
    else if (name !== '' && name !== '.') names.push(name);
  }
  return `/${names.join('/')}`;
}

function expressionOf(pattern: string): RegExp {
  const source = pattern.replace(/\*\*|[*?]|[^*?]+/g, (part) => {
    if (part === '**') return '.*';
    if (part === '*') return '[^/]*';
    return part === '?' ? '[^/]' : part.replace(/[\\^$.|+()[\]{}]/g, '\\$&');
  });
  return new RegExp(`^${source}$`, 'su');
}
