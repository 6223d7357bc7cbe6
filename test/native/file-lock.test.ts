import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { lockImage, unlockImage } from '../../host/node/file-lock.js';

const run = promisify(execFile);

let folder: string;
let path: string;
const descriptors: number[] = [];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'corral-lock-'));
  path = join(folder, 'disk.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1M']);
});
afterEach(() => {
  for (const descriptor of descriptors.splice(0)) closeSync(descriptor);
  rmSync(folder, { recursive: true });
});

function open(flags: 'r' | 'r+'): number {
  const descriptor = openSync(path, flags);
  descriptors.push(descriptor);
  return descriptor;
}

function lock(write: boolean): number {
  const descriptor = open(write ? 'r+' : 'r');
  lockImage(descriptor, { write, path });
  return descriptor;
}

/** First and last byte of each lock on the image, as the kernel lists them. */
function lockedBytes(): string[] {
  const { ino } = statSync(path);
  return readFileSync('/proc/locks', 'utf8')
    .split('\n')
    .filter((line) => line.split(/\s+/)[5]?.endsWith(`:${ino}`))
    .map((line) => line.split(/\s+/).slice(6, 8).join('-'))
    .sort();
}

describe('among users of this library', () => {
  test('a second writer is refused', () => {
    lock(true);

    expect(() => lock(true)).toThrow(
      expect.objectContaining({ code: 'ERR_LOCKED', details: expect.objectContaining({ path }) }),
    );
  });

  test('a reader is refused while somebody writes, and a writer while somebody reads', () => {
    const writer = lock(true);
    expect(() => lock(false)).toThrow(expect.objectContaining({ code: 'ERR_LOCKED' }));
    unlockImage(writer);
    lock(false);

    expect(() => lock(true)).toThrow(expect.objectContaining({ code: 'ERR_LOCKED' }));
  });

  test('readers tolerate each other', () => {
    lock(false);

    expect(() => lock(false)).not.toThrow();
  });

  test('whoever was refused leaves nothing locked', () => {
    const reader = lock(false);
    expect(() => lock(true)).toThrow();
    unlockImage(reader);

    expect(lockedBytes()).toEqual([]);
    expect(() => lock(true)).not.toThrow();
  });

  test('a lock ends with its file', () => {
    const descriptor = openSync(path, 'r+');
    lockImage(descriptor, { write: true });
    closeSync(descriptor);

    expect(() => lock(true)).not.toThrow();
  });

  test('a file that another program locked as a whole is refused', async () => {
    const script = `import fcntl,sys,time
f = open(sys.argv[1], 'r+b')
fcntl.lockf(f, fcntl.LOCK_EX)
print('locked', flush=True)
time.sleep(60)`;
    const other = spawn('python3', ['-c', script, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      await once(other.stdout, 'data');

      expect(() => lock(true)).toThrow(expect.objectContaining({ code: 'ERR_LOCKED' }));
    } finally {
      other.kill();
      await once(other, 'exit');
    }
  });
});

describe('between this library and QEMU', () => {
  /** A qemu-io that has the image open until the test ends it. */
  async function withQemuIo(options: string[], body: () => void): Promise<void> {
    const qemu = spawn('qemu-io', ['-f', 'qcow2', ...options, path], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      qemu.stdin.write('length\n');
      await once(qemu.stdout, 'data');
      while (lockedBytes().length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
      body();
    } finally {
      qemu.stdin.end('quit\n');
      await once(qemu, 'exit');
    }
  }

  test('a writer has the locks that QEMU has', async () => {
    let qemu: string[] = [];
    await withQemuIo([], () => {
      qemu = lockedBytes();
    });

    lock(true);

    // The kernel joins neighbouring locks; which ones depends on the order of locking.
    expect(bytesOf(lockedBytes())).toEqual(bytesOf(qemu));
    expect(bytesOf(qemu)).toEqual([100, 101, 103, 201, 203]);
  });

  test('a reader has the locks that QEMU has', async () => {
    let qemu: string[] = [];
    await withQemuIo(['-r'], () => {
      qemu = lockedBytes();
    });

    lock(false);

    expect(bytesOf(lockedBytes())).toEqual(bytesOf(qemu));
  });

  test('a writer and a reader are refused while qemu-io writes', async () => {
    await withQemuIo([], () => {
      expect(() => lock(true)).toThrow(expect.objectContaining({ code: 'ERR_LOCKED' }));
      expect(() => lock(false)).toThrow(expect.objectContaining({ code: 'ERR_LOCKED' }));
    });
  });

  test('a reader is admitted and a writer refused while qemu-io reads', async () => {
    await withQemuIo(['-r'], () => {
      expect(() => lock(false)).not.toThrow();
      expect(() => lock(true)).toThrow(expect.objectContaining({ code: 'ERR_LOCKED' }));
    });
  });

  test('qemu-io and qemu-img are refused while we write', async () => {
    lock(true);

    await expect(run('qemu-io', ['-f', 'qcow2', '-c', 'length', path])).rejects.toThrow(/Failed to get .* lock/);
    await expect(run('qemu-img', ['info', path])).rejects.toThrow(/Failed to get shared "write" lock/);
  });

  test('qemu-img reads while we read, and does not write', async () => {
    lock(false);

    await expect(run('qemu-img', ['info', path])).resolves.toBeDefined();
    await expect(run('qemu-img', ['resize', '-q', path, '2M'])).rejects.toThrow(/Failed to get/);
  });
});

function bytesOf(ranges: string[]): number[] {
  return ranges
    .flatMap((range) => {
      const [first, last] = range.split('-').map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    })
    .sort((a, b) => a - b);
}
