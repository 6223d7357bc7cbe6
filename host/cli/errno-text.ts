/** What the C library says of an error number of Linux. */

import { constants } from 'node:os';
import { CorralError, type CorralErrorCode } from '../errors.js';

/** By number, from 1 on. */
const TEXTS = [
  'Operation not permitted',
  'No such file or directory',
  'No such process',
  'Interrupted system call',
  'Input/output error',
  'No such device or address',
  'Argument list too long',
  'Exec format error',
  'Bad file descriptor',
  'No child processes',
  'Resource temporarily unavailable',
  'Cannot allocate memory',
  'Permission denied',
  'Bad address',
  'Block device required',
  'Device or resource busy',
  'File exists',
  'Invalid cross-device link',
  'No such device',
  'Not a directory',
  'Is a directory',
  'Invalid argument',
  'Too many open files in system',
  'Too many open files',
  'Inappropriate ioctl for device',
  'Text file busy',
  'File too large',
  'No space left on device',
  'Illegal seek',
  'Read-only file system',
  'Too many links',
  'Broken pipe',
  'Numerical argument out of domain',
  'Numerical result out of range',
  'Resource deadlock avoided',
  'File name too long',
  'No locks available',
  'Function not implemented',
  'Directory not empty',
  'Too many levels of symbolic links',
  'Unknown error 41',
  'No message of desired type',
  'Identifier removed',
  'Channel number out of range',
  'Level 2 not synchronized',
  'Level 3 halted',
  'Level 3 reset',
  'Link number out of range',
  'Protocol driver not attached',
  'No CSI structure available',
  'Level 2 halted',
  'Invalid exchange',
  'Invalid request descriptor',
  'Exchange full',
  'No anode',
  'Invalid request code',
  'Invalid slot',
  'Unknown error 58',
  'Bad font file format',
  'Device not a stream',
  'No data available',
  'Timer expired',
  'Out of streams resources',
  'Machine is not on the network',
  'Package not installed',
  'Object is remote',
  'Link has been severed',
  'Advertise error',
  'Srmount error',
  'Communication error on send',
  'Protocol error',
  'Multihop attempted',
  'RFS specific error',
  'Bad message',
  'Value too large for defined data type',
  'Name not unique on network',
  'File descriptor in bad state',
  'Remote address changed',
  'Can not access a needed shared library',
  'Accessing a corrupted shared library',
  '.lib section in a.out corrupted',
  'Attempting to link in too many shared libraries',
  'Cannot exec a shared library directly',
  'Invalid or incomplete multibyte or wide character',
  'Interrupted system call should be restarted',
  'Streams pipe error',
  'Too many users',
  'Socket operation on non-socket',
  'Destination address required',
  'Message too long',
  'Protocol wrong type for socket',
  'Protocol not available',
  'Protocol not supported',
  'Socket type not supported',
  'Operation not supported',
  'Protocol family not supported',
  'Address family not supported by protocol',
  'Address already in use',
  'Cannot assign requested address',
  'Network is down',
  'Network is unreachable',
  'Network dropped connection on reset',
  'Software caused connection abort',
  'Connection reset by peer',
  'No buffer space available',
  'Transport endpoint is already connected',
  'Transport endpoint is not connected',
  'Cannot send after transport endpoint shutdown',
  'Too many references: cannot splice',
  'Connection timed out',
  'Connection refused',
  'Host is down',
  'No route to host',
  'Operation already in progress',
  'Operation now in progress',
  'Stale file handle',
  'Structure needs cleaning',
  'Not a XENIX named type file',
  'No XENIX semaphores available',
  'Is a named type file',
  'Remote I/O error',
  'Disk quota exceeded',
  'No medium found',
  'Wrong medium type',
  'Operation canceled',
  'Required key not available',
  'Key has expired',
  'Key has been revoked',
  'Key was rejected by service',
  'Owner died',
  'State not recoverable',
  'Operation not possible due to RF-kill',
  'Memory page has hardware error',
];

/** Errors of the engine that have no number of the system's, in the words that QEMU would have. */
const OF_CODES: Partial<Record<CorralErrorCode, number>> = {
  ERR_NO_SPACE: constants.errno.ENOSPC,
  ERR_INVALID_ARGUMENT: constants.errno.EINVAL,
  ERR_UNSUPPORTED: constants.errno.ENOTSUP,
  ERR_READ_ONLY: constants.errno.EACCES,
  ERR_PERMISSION: constants.errno.EACCES,
  ERR_NOT_FOUND: constants.errno.ENOENT,
  ERR_TOO_LARGE: constants.errno.EFBIG,
};

/** A request fails as a call of the system would. */
export class SystemFailure extends Error {
  readonly errno: number;

  constructor(readonly code: keyof typeof constants.errno) {
    super(errnoText(constants.errno[code]));
    this.errno = constants.errno[code];
  }
}

/** "Input/output error" for 5. */
export function errnoText(errno: number): string {
  return TEXTS[errno - 1] ?? `Unknown error ${errno}`;
}

/** The line for an error of a request: that of the system below it when there is one. */
export function requestErrorText(error: unknown): string {
  return errnoText(errnoOf(error));
}

/** The number of the error that is behind this one; EIO when nobody knows. */
function errnoOf(error: unknown): number {
  const { errno, cause } = error as { errno?: unknown; cause?: unknown };
  // Node has them below zero.
  if (typeof errno === 'number' && errno !== 0) return Math.abs(errno);
  if (cause !== undefined && cause !== null) return errnoOf(cause);
  return (error instanceof CorralError ? OF_CODES[error.code] : undefined) ?? constants.errno.EIO;
}
