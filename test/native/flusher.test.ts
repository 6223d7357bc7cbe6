import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ADDON = join(import.meta.dirname, '../../dist/native/corral.node');
/** PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE of the kernel's sched.h, which proc_pid_stat(5) tells in field 9. */
const FLAGS = 0x0008_0000 | 0x0010_0000;

test('a thread that serves a device is known to the kernel as one that frees memory for others', () => {
  const program = `
    const { readFileSync } = require('node:fs');
    const flags = () => Number(readFileSync('/proc/thread-self/stat', 'utf8').split(') ')[1].split(' ')[6]);
    const before = flags();
    const became = require(${JSON.stringify(ADDON)}).becomeFlusher();
    console.log(JSON.stringify({ became, changed: flags() & ~before }));`;

  const { became, changed } = JSON.parse(execFileSync(process.execPath, ['-e', program], { encoding: 'utf8' }));

  // Who may not say so is told, and nothing else happens.
  expect([became, changed]).toEqual(became ? [true, FLAGS] : [false, 0]);
});
