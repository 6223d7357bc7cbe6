/** The unit files: systemd itself reads them, and judges how much a service could do that was taken over. */
import { execFileSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';

const UNITS = join(import.meta.dirname, '../../host/node/systemd');
/** Of 10, which is a service that nothing keeps from anything. */
const MOST_EXPOSED = 3.5;

function copied(): string {
  const folder = temporaryFolder();
  copyFileSync(join(UNITS, 'corral@.service'), join(folder, 'corral@srv-disk.qcow2.service'));
  copyFileSync(join(UNITS, 'corral-recover.service'), join(folder, 'corral-recover.service'));
  return folder;
}

test.each(['corral@srv-disk.qcow2.service', 'corral-recover.service'])('systemd finds nothing wrong in %s', (unit) => {
  const cwd = copied();

  const verify = (): string =>
    execFileSync('systemd-analyze', ['verify', '--man=no', `./${unit}`], { cwd, encoding: 'utf8' });

  expect(verify).not.toThrow();
});

test.each(['corral@srv-disk.qcow2.service', 'corral-recover.service'])('%s is shut in', (unit) => {
  const cwd = copied();

  const judged = execFileSync('systemd-analyze', ['security', '--offline=yes', '--no-pager', `./${unit}`], {
    cwd,
    encoding: 'utf8',
  });

  const exposure = Number(/exposure level for .*: ([\d.]+)/.exec(judged)?.[1]);
  expect(exposure).toBeLessThanOrEqual(MOST_EXPOSED);
});
