/** Whether a block device holds swap space: whoever takes it away takes the memory of programs, its server's perhaps, too. */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { CorralError } from '../errors.js';
import { devicesBelow } from './storage-stack.js';
import { blockNode } from './ublk-errors.js';

/** Where the kernel tells; elsewhere in tests. */
const SWAPS = '/proc/swaps';

/**
 * Refuses to end a ublk device on which there is swap space: itself, a partition, or a file or mapped device on it.
 *
 * @throws CorralError ERR_LOCKED that says what to do
 */
export async function refuseSwap(id: number, swaps = SWAPS): Promise<void> {
  const lines = (await readFile(swaps, 'utf8').catch(() => '')).split('\n').slice(1);
  for (const line of lines) {
    // "/dev/sda2  partition  8388604  0  -2", with blanks in names as octal numbers (proc_swaps(5))
    const name = (line.split(/\s+/)[0] ?? '').replace(/\\(\d{3})/g, (_, digits) =>
      String.fromCharCode(Number.parseInt(digits, 8)),
    );
    if (!name.startsWith('/') || !(await isOn(name, id))) continue;
    throw new CorralError('ERR_LOCKED', {
      path: blockNode(id),
      device: id,
      reason: `It holds swap space that is in use: end that first, with swapoff ${name}`,
    });
  }
}

async function isOn(name: string, id: number): Promise<boolean> {
  if (new RegExp(`^ublkb${id}(p\\d+)?$`).test(basename(name)) && name.startsWith('/dev/')) return true;
  return (await devicesBelow(name)).has(`ublkb${id}`);
}
