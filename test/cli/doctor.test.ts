/** What the doctor says of this machine, and of machines that lack something. */

import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { examine } from '../../host/cli/commands/doctor.js';
import { type Finding, mayAttach } from '../../host/cli/doctor/finding.js';
import type { HostView } from '../../host/cli/doctor/host-view.js';
import { CorralError } from '../../host/errors.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corralHere } from './run-corral.js';

interface Report {
  attach: boolean;
  findings: Finding[];
}

/** As the addon throws it. */
function systemError(operation: string, code: string): Error {
  return Object.assign(new Error(`${operation}: ${code}`), { operation, errno: 1, code });
}

const ALL_OPCODES = [...Array(63).keys()];
const FASTEST = (1 << 8) | (1 << 12) | (1 << 13);
const IOCTL_ENCODED = 1 << 6;

interface Machine {
  files?: Readonly<Record<string, string>>;
  opcodes?: readonly number[];
  setupFlags?: number;
  features?: number;
  ringError?: Error;
  controlError?: Error;
  noAddon?: boolean;
  userId?: number;
}

/** A machine that has everything, but for what is said. */
function machine(given: Machine): HostView {
  const files: Readonly<Record<string, string>> = {
    '/sys/module/ublk_drv': '',
    '/dev/ublk-control': '',
    '/proc/self/limits':
      'Max locked memory         8388608              8388608              bytes\nMax open files            1048576 1048576 files\n',
    '/proc/self/status': 'CapEff:\t000001ffffffffff\n',
    ...given.files,
  };
  return {
    platform: 'linux',
    arch: 'x64',
    release: '6.12.0',
    nodeVersion: '20.0.0',
    corralVersion: '0.1.0',
    userId: given.userId ?? 0,
    exists: (path) => files[path] !== undefined && files[path] !== 'absent',
    readText: (path) => files[path],
    addon() {
      if (given.noAddon)
        throw new CorralError('ERR_ADDON_MISSING', { reason: 'it was not built: run `npm run build`' });
      return {
        probeRing() {
          if (given.ringError) throw given.ringError;
          return { setupFlags: given.setupFlags ?? FASTEST, opcodes: [...(given.opcodes ?? ALL_OPCODES)] };
        },
        ublk: {
          getFeatures: async () => {
            if (given.controlError) throw given.controlError;
            return given.features ?? IOCTL_ENCODED + 2 ** 3 + 2 ** 40;
          },
        } as ReturnType<HostView['addon']>['ublk'],
      };
    },
  };
}

const NO_DRIVER = { '/sys/module/ublk_drv': 'absent', '/dev/ublk-control': 'absent' };

describe('a machine', () => {
  test('that has everything may attach', async () => {
    const findings = await examine(machine({}));

    expect(findings.map(({ status }) => status)).toEqual(findings.map(() => 'ok'));
    expect(findings).toContainEqual(
      expect.objectContaining({ id: 'ublk-features', found: 'user-recovery, ioctl-encoded, bit-40' }),
    );
    expect(mayAttach(findings)).toBe(true);
  });

  test.each<[about: string, lacks: Machine, id: string, found: RegExp, fix: RegExp]>([
    ['without the addon', { noAddon: true }, 'addon', /not built/, /g\+\+.*npm run build/],
    [
      'where io_uring is for nobody',
      { ringError: systemError('io_uring_setup', 'EPERM'), files: { '/proc/sys/kernel/io_uring_disabled': '2\n' } },
      'io-uring',
      /for nobody/,
      /sysctl kernel\.io_uring_disabled=0$/,
    ],
    [
      'where io_uring is for a group',
      { ringError: systemError('io_uring_setup', 'EPERM'), files: { '/proc/sys/kernel/io_uring_disabled': '1\n' } },
      'io-uring',
      /a group/,
      /io_uring_group/,
    ],
    [
      'in a container without io_uring',
      { ringError: systemError('io_uring_setup', 'EPERM'), files: { '/proc/sys/kernel/io_uring_disabled': '0\n' } },
      'io-uring',
      /io_uring_setup: EPERM/,
      /seccomp/,
    ],
    [
      'whose io_uring knows no commands of drivers',
      { opcodes: [...Array(46).keys()] },
      'io-uring-operations',
      /URING_CMD/,
      /6\.5/,
    ],
    ['whose kernel has no driver', { files: NO_DRIVER }, 'ublk-module', /6\.12\.0 has none/, /BLK_DEV_UBLK.*NBD/],
    [
      'whose driver is not loaded',
      { files: { ...NO_DRIVER, '/lib/modules/6.12.0/modules.dep': 'kernel/drivers/block/ublk_drv.ko.xz:\n' } },
      'ublk-module',
      /not loaded/,
      /modprobe ublk_drv/,
    ],
    [
      'where somebody else is root',
      { controlError: systemError('open /dev/ublk-control', 'EACCES'), userId: 1000 },
      'ublk-control',
      /not permitted/,
      /root/,
    ],
    [
      'in a container without the device',
      { controlError: systemError('open /dev/ublk-control', 'ENOENT') },
      'ublk-control',
      /ENOENT/,
      /--device \/dev\/ublk-control/,
    ],
    [
      'with the first of the drivers',
      { controlError: systemError('get features', 'EOPNOTSUPP') },
      'ublk-features',
      /too old/,
      /6\.5/,
    ],
    ['with an old driver', { features: 1 << 3 }, 'ublk-features', /^user-recovery$/, /6\.5/],
  ])('%s may not attach, and is told why once', async (_about, lacks, id, found, fix) => {
    const findings = await examine(machine(lacks));

    const missing = findings.filter(({ status }) => status === 'missing');
    expect(missing).toEqual([
      expect.objectContaining({ id, found: expect.stringMatching(found), fix: expect.stringMatching(fix) }),
    ]);
    expect(mayAttach(findings)).toBe(false);
  });

  test.each([
    ['the driver has them for root only', IOCTL_ENCODED, {}, /root only/],
    ['no rules give them to users', IOCTL_ENCODED + 2 ** 5, {}, /^none.*60-corral-ublk\.rules/],
    [
      'rules give them to users',
      IOCTL_ENCODED + 2 ** 5,
      { '/etc/udev/rules.d/60-corral-ublk.rules': '' },
      /^those whom \/etc\/udev/,
    ],
  ])('may have devices of users, or not: %s', async (_about, features, files, found) => {
    const findings = await examine(machine({ features, files }));

    expect(findings.find(({ id }) => id === 'ublk-users')?.found).toMatch(found);
    expect(mayAttach(findings)).toBe(true);
  });

  test.each<[about: string, lacks: Machine, id: string]>([
    ['with a slow io_uring', { setupFlags: 0 }, 'io-uring'],
    ['with little memory to lock', { files: { '/proc/self/status': 'CapEff:\t0000000000000000\n' } }, 'locked-memory'],
    [
      'with few files',
      { files: { '/proc/self/limits': 'Max locked memory unlimited\nMax open files 256 4096 files\n' } },
      'open-files',
    ],
  ])('%s may attach, and is told what is slower', async (_about, lacks, id) => {
    const findings = await examine(machine(lacks));

    const limited = findings.filter(({ status }) => status !== 'ok');
    expect(limited).toEqual([expect.objectContaining({ id, status: 'limited', fix: expect.any(String) })]);
    expect(mayAttach(findings)).toBe(true);
  });
});

describe('corral doctor', () => {
  test('tells people and programs the same, and the status says whether images can be attached', async () => {
    const human = await corralHere('doctor');
    const json = await corralHere('doctor', '--output=json');

    const report = JSON.parse(json.stdout) as Report;
    expect(human.status).toBe(report.attach ? 0 : 1);
    expect(json.status).toBe(human.status);
    for (const { status, about, found } of report.findings) {
      expect(human.stdout).toContain(`${status.padEnd(8)} ${about}`);
      expect(human.stdout).toContain(found);
    }
    expect(report.findings).toContainEqual(expect.objectContaining({ id: 'addon', status: 'ok' }));
    expect(human.stderr + json.stderr).toBe('');
  });

  test('tells of a folder, and leaves nothing in it', async () => {
    const folder = temporaryFolder();

    const { stdout } = await corralHere('doctor', '--output=json', folder);

    const ids = (JSON.parse(stdout) as Report).findings.map(({ id }) => id);
    expect(ids.slice(-5)).toEqual(['folder', 'direct-io', 'holes', 'zero-range', 'image-locks']);
    expect(readdirSync(folder)).toEqual([]);
  });

  test.each(['missing', 'file'])('a folder that is none is refused: %s', async (name) => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'file'), '');

    const { status, stdout, stderr } = await corralHere('doctor', join(folder, name));

    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^corral: Cannot make a file in '.*': N[^\n]*\n$/);
  });
});
