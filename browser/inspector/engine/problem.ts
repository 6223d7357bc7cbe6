/** From an error to what a person reads: what went wrong, and what to do about it. */

import { CorralError, type CorralErrorCode } from '../../../host/errors.js';
import type { Problem } from '../protocol.js';

const ADVICE: Readonly<Partial<Record<CorralErrorCode, string>>> = {
  ERR_NOT_QCOW2: 'If it is a compressed download (.gz, .xz, .zip), unpack it first.',
  ERR_IMAGE_CORRUPT: 'Keep the file as it is, and let corral check -r repair a copy of it.',
  ERR_IO: 'The file may have been changed, moved or deleted since it was dropped here: drop it again.',
  ERR_TOO_LARGE: 'The command line, corral inspect, has options for larger limits.',
  ERR_INTERNAL: 'This is a mistake of ours. The file was not changed. Please report it.',
};

const LAYERS = ['backing file', 'external data file', 'data file'];
const MISSING_LAYER = 'Drop that file, too, together with this one: a chain is several files dropped at once.';
const REFUSED_LAYER =
  'Download both files, and drop them together on the page for files of this machine: they are a chain there.';
const ENCRYPTED = 'What the disk holds stays hidden; its tables can still be looked at.';

/** The problem that an error is. */
export function problemOf(error: unknown): Problem {
  if (!(error instanceof CorralError)) {
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof DOMException && error.name === 'AbortError') {
      return { code: 'ERR_CANCELLED', message: 'Cancelled', advice: undefined };
    }
    const fileGone = error instanceof DOMException;
    return {
      code: fileGone ? 'ERR_IO' : 'ERR_INTERNAL',
      message,
      advice: ADVICE[fileGone ? 'ERR_IO' : 'ERR_INTERNAL'],
    };
  }
  const { code, message, details } = error;
  return { code, message, advice: adviceOf(code, String(details.field ?? '')) };
}

function adviceOf(code: CorralErrorCode, field: string): string | undefined {
  const isLayer = LAYERS.includes(field);
  if (isLayer && code === 'ERR_PERMISSION') return REFUSED_LAYER;
  if (isLayer) return MISSING_LAYER;
  if (code === 'ERR_UNSUPPORTED' && /crypt/i.test(field)) return ENCRYPTED;
  return ADVICE[code];
}
