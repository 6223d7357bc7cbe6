/** io_uring: whether this process may have one, and whether it knows every operation that is needed. */

import { isSystemError, type RingAbilities } from '../../node/addon.js';
import { NEEDS_ADDON } from './addon.js';
import type { Finding } from './finding.js';
import type { HostView } from './host-view.js';

/** IORING_OP numbers without which nothing is served. */
const NEEDED: Readonly<Record<string, number>> = {
  WRITEV: 2,
  FSYNC: 3,
  READ_FIXED: 4,
  WRITE_FIXED: 5,
  POLL_ADD: 6,
  LINK_TIMEOUT: 15,
  FALLOCATE: 17,
  READ: 22,
  WRITE: 23,
  URING_CMD: 46,
};
/** For those that are missing a plain call is made. */
const WANTED: Readonly<Record<string, number>> = { FTRUNCATE: 55 };

/** IORING_SETUP flags that make a ring faster. */
const SETUP_FLAGS: Readonly<Record<string, number>> = {
  COOP_TASKRUN: 1 << 8,
  SINGLE_ISSUER: 1 << 12,
  DEFER_TASKRUN: 1 << 13,
};

const SYSCTL = '/proc/sys/kernel/io_uring_disabled';

/** What `kernel.io_uring_disabled` forbids, by its value. */
const DISABLED: Readonly<Record<string, string>> = {
  '1': 'only for root and a group (kernel.io_uring_disabled is 1)',
  '2': 'for nobody (kernel.io_uring_disabled is 2)',
};

/** Two findings: the ring, and its operations. */
export function examineRing(host: HostView): Finding[] {
  let abilities: RingAbilities;
  try {
    // Of the wide kind, which newer kernels have: control commands need it.
    abilities = host.addon().probeRing(true);
  } catch (error) {
    return [refused(host, error), operations(undefined, NEEDS_RING)];
  }
  const { setupFlags } = abilities;
  const names = Object.keys(SETUP_FLAGS).filter((name) => (setupFlags & (SETUP_FLAGS[name] as number)) !== 0);
  const found = names.length === 0 ? 'allowed, of the slow kind' : `allowed, with ${names.join(', ')}`;
  const ring: Finding =
    names.length === Object.keys(SETUP_FLAGS).length
      ? { ...RING, status: 'ok', found }
      : { ...RING, status: 'limited', found, fix: 'Linux 6.1 or newer has faster ones' };
  return [ring, operations(abilities, NEEDS_RING)];
}

const RING = { id: 'io-uring', about: 'io_uring' };
const NEEDS_RING = 'needs io_uring';

function refused(host: HostView, error: unknown): Finding {
  if (!isSystemError(error)) return { ...RING, status: 'unknown', found: NEEDS_ADDON };
  const setting = host.readText(SYSCTL)?.trim() ?? '0';
  const forbidden = DISABLED[setting];
  if (forbidden !== undefined) {
    const group = setting === '1' ? ', or make the user a member of the group in kernel.io_uring_group' : '';
    return {
      ...RING,
      status: 'missing',
      found: `allowed ${forbidden}`,
      fix: `as root: sysctl kernel.io_uring_disabled=0${group}`,
    };
  }
  return { ...RING, status: 'missing', found: error.message, fix: FIXES[error.code] };
}

/** What mends it, by what the kernel answers. */
const FIXES: Readonly<Record<string, string>> = {
  EPERM:
    'a seccomp filter forbids it, as those of containers do: allow io_uring_setup, io_uring_enter and io_uring_register there',
  ENOSYS: 'a kernel with CONFIG_IO_URING, and no seccomp filter that hides it',
  EINVAL: 'Linux 5.19 or newer',
  ENOMEM: 'a higher limit of locked memory: ulimit -l unlimited',
  EMFILE: 'a higher limit of open files: ulimit -n 65536',
};

function operations(abilities: RingAbilities | undefined, otherwise: string): Finding {
  const common = { id: 'io-uring-operations', about: 'io_uring operations' };
  if (abilities === undefined) return { ...common, status: 'unknown', found: otherwise };
  const known = new Set(abilities.opcodes);
  const lacking = (table: Readonly<Record<string, number>>): string[] =>
    Object.keys(table).filter((name) => !known.has(table[name] as number));
  const [needed, wanted] = [lacking(NEEDED), lacking(WANTED)];
  if (needed.length > 0) {
    return { ...common, status: 'missing', found: `without ${needed.join(', ')}`, fix: 'Linux 6.5 or newer' };
  }
  if (wanted.length > 0) return { ...common, status: 'ok', found: `all that are needed; without ${wanted.join(', ')}` };
  return { ...common, status: 'ok', found: 'all that are used' };
}
