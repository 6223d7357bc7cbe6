import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ON_DISK } from './ring-fixture.js';

const WORKER = join(import.meta.dirname, 'without-helpers-worker.mjs');

test('writes end well although the kernel cannot start a helper thread for them', () => {
  mkdirSync(ON_DISK, { recursive: true });
  const folder = mkdtempSync(join(ON_DISK, 'corral-helpers-'));
  const file = join(folder, 'file');
  writeFileSync(file, Buffer.alloc(65536));
  try {
    const output = execFileSync(process.execPath, [WORKER, file], { encoding: 'utf8', timeout: 30_000 });

    expect(output.trim()).toBe('0 0 0 0 0 0 0 0');
    expect(readFileSync(file).subarray(0, 32_768).equals(Buffer.alloc(32_768, 0x5a))).toBe(true);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
