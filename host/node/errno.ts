/** Error numbers of Linux: what the core's statuses are to a kernel, and what the kernel's are to people. */
import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import { Status } from '../abi.js';

const { EIO, EINVAL, EROFS, ENOSPC, EFBIG, EOPNOTSUPP } = constants.errno;

/** Answer to the kernel for each status; those that are not here are input/output errors. */
const ERRNO_OF_STATUS: Readonly<Record<number, number>> = {
  [Status.Ok]: 0,
  [Status.Invalid]: EINVAL,
  [Status.OutOfRange]: EINVAL,
  [Status.ReadOnly]: EROFS,
  [Status.Unsupported]: EOPNOTSUPP,
  [Status.NoSpace]: ENOSPC,
  [Status.TooLarge]: EFBIG,
};

/** 0 for Ok, else a negative errno. */
export function errnoOf(status: Status): number {
  return status === Status.Ok ? 0 : -(ERRNO_OF_STATUS[status] ?? EIO);
}

/** What the system says, and what to do about it where that is known. */
export function adviceFor(code: string | undefined, message: string): string {
  if (code !== 'EMFILE') return message;
  return 'Too many open files for this process: raise its limit (ulimit -n, or LimitNOFILE= of its unit)';
}

/** An error with the system's `code` and words for a positive errno. */
export function systemErrorOf(errno: number): Error {
  const [code, message] = getSystemErrorMap().get(-errno) ?? ['EUNKNOWN', `system error ${errno}`];
  return Object.assign(new Error(`${code}: ${message}`), { code, errno });
}
