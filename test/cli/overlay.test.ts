/** Overlays that `attach --overlay` makes, with QEMU as their judge. */
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { ensureOverlay } from '../../host/cli/overlay.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corral, mustQemuImg, qemuIo } from './run-corral.js';

let folder: string;
let base: string;
let overlay: string;

beforeEach(() => {
  folder = temporaryFolder();
  base = join(folder, 'base.qcow2');
  overlay = join(folder, 'vm42.qcow2');
  mustQemuImg('create', '-q', '-f', 'qcow2', base, '3M');
  qemuIo(base, 'write -P 0x5a 0 1M');
});

describe('an overlay', () => {
  test('that is missing is made: QEMU reads the base through it, and the base stays as it is', async () => {
    const before = readFileSync(base);

    await ensureOverlay(base, overlay);

    const info = JSON.parse(mustQemuImg('info', '--output', 'json', overlay));
    expect(info).toMatchObject({
      'virtual-size': 3 << 20,
      'full-backing-filename': base,
      'backing-filename-format': 'qcow2',
    });
    mustQemuImg('check', overlay);
    mustQemuImg('compare', base, overlay);
    expect(readFileSync(base).equals(before)).toBe(true);
    expect(readdirSync(folder).sort()).toEqual(['base.qcow2', 'vm42.qcow2']);
  });

  test('that is there stays as it is', async () => {
    await ensureOverlay(base, overlay);
    const before = readFileSync(overlay);

    await ensureOverlay(base, overlay);

    expect(readFileSync(overlay).equals(before)).toBe(true);
  });

  test('whose base has another name for the same file is one of it', async () => {
    mustQemuImg('create', '-q', '-f', 'qcow2', '-b', './base.qcow2', '-F', 'qcow2', overlay);

    await expect(ensureOverlay(base, overlay)).resolves.toBeUndefined();
  });

  test('of another base, or of none, is refused', async () => {
    const other = join(folder, 'other.qcow2');
    copyFileSync(base, other);
    mustQemuImg('create', '-q', '-f', 'qcow2', '-b', 'other.qcow2', '-F', 'qcow2', overlay);

    await expect(ensureOverlay(base, overlay)).rejects.toThrow(/continues from 'other\.qcow2', not from/);
    await expect(ensureOverlay(base, other)).rejects.toThrow(/has no backing file/);
  });
});

describe('nothing is made', () => {
  test('over a raw disk, whose format the guest could change', async () => {
    const raw = join(folder, 'raw');
    writeFileSync(raw, Buffer.alloc(65536));

    await expect(ensureOverlay(raw, overlay)).rejects.toThrow(/no qcow2 image/);
    expect(readdirSync(folder)).not.toContain('vm42.qcow2');
  });

  test('in a folder that is not there', async () => {
    await expect(ensureOverlay(base, join(folder, 'no/vm.qcow2'))).rejects.toThrow(/Could not create/);
    expect(readdirSync(folder)).toEqual(['base.qcow2']);
  });

  test('for several bases', () => {
    const { status, stderr } = corral(['attach', '--overlay', overlay, base, base]);

    expect(status).toBe(1);
    expect(stderr).toMatch(/one image/);
    expect(readdirSync(folder)).toEqual(['base.qcow2']);
  });
});
