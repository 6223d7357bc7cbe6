/** What this process may have: locked memory and open files. */

import type { Finding } from './finding.js';
import type { HostView } from './host-view.js';

/** Bytes that the ring of a device registers as it is made by default: 128 requests of 512 KiB. */
const REGISTERED = 64 << 20;
/** A device takes ten files or so, an image one for each file of its chain. */
const ENOUGH_FILES = 1024;
/** CAP_IPC_LOCK: who has it may lock any memory. */
const IPC_LOCK = 14n;

/** Two findings; none where the system tells no limits. */
export function examineLimits(host: HostView): Finding[] {
  const limits = host.readText('/proc/self/limits');
  if (limits === undefined) return [];
  return [
    examineMemory(host, softLimit(limits, 'Max locked memory')),
    examineFiles(softLimit(limits, 'Max open files')),
  ];
}

function examineMemory(host: HostView, limit: number): Finding {
  const common = { id: 'locked-memory', about: 'locked memory' };
  const [, capabilities = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(host.readText('/proc/self/status') ?? '') ?? [];
  if ((BigInt(`0x${capabilities}`) >> IPC_LOCK) & 1n) {
    return { ...common, status: 'ok', found: 'without a limit for this user' };
  }
  const found = limitText(limit / 1024, ' KiB');
  if (limit >= REGISTERED) return { ...common, status: 'ok', found };
  return {
    ...common,
    status: 'limited',
    found: `${found}: a device's buffers are not registered, and each request is slower`,
    fix: 'ulimit -l unlimited, or LimitMEMLOCK=infinity in a systemd unit',
  };
}

function examineFiles(limit: number): Finding {
  const common = { id: 'open-files', about: 'open files' };
  const found = limitText(limit, '');
  if (limit >= ENOUGH_FILES) return { ...common, status: 'ok', found };
  return {
    ...common,
    status: 'limited',
    found: `${found}: few devices, and no long chains of images`,
    fix: 'ulimit -n 65536, or LimitNOFILE=65536 in a systemd unit',
  };
}

/** From a row of /proc/self/limits: name, soft limit, hard limit, unit. */
function softLimit(limits: string, name: string): number {
  const [, soft] = new RegExp(`^${name}\\s+(\\w+)`, 'm').exec(limits) ?? [];
  return soft === undefined || soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
}

function limitText(limit: number, unit: string): string {
  return limit === Number.POSITIVE_INFINITY ? 'without a limit' : `${limit}${unit}`;
}
