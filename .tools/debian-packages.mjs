/** The Debian packages that the build and the tests need: the one list of them, and how they get here. */
import { readFileSync } from 'node:fs';
import { capture, findProgram } from './lib/run.mjs';

/** Each with what it is for. */
const PACKAGES = {
  python3: 'builds the addon (node-gyp)',
  make: 'builds the addon',
  'g++': 'builds the addon',
  'linux-libc-dev': 'the kernel headers of the addon',
  'qemu-system-x86': 'the virtual machine with a ublk kernel (with virtiofsd on Debian 12)',
  'qemu-utils': 'the libraries of the newer image tools, see lib/qemu.mjs',
  'busybox-static': 'the first file system of the virtual machine',
  cpio: 'the same',
  kmod: 'the same, and modules',
  'xz-utils': 'kernel modules are compressed',
  e2fsprogs: 'file systems as real input',
  dosfstools: 'the same',
  mtools: 'the same',
  gdisk: 'partition tables as real input',
  xfsprogs: 'file systems as real input',
  fio: 'load with verification',
  'nbd-client': 'the kernel as an NBD client',
  'libnbd-bin': 'nbdcopy and nbdinfo as NBD clients',
  bubblewrap: 'a level of the sandbox',
  openssl: 'certificates for TLS',
  chromium: 'the browser of the tests in one',
  strace: 'which system calls were made',
  dmsetup: 'disks that break',
  systemd: 'reads and judges the unit files',
  zsh: 'command lines are completed in it',
  fish: 'the same',
  mandoc: 'looks for mistakes in the manual pages',
};

/**
 * Installs what is missing when this is root; else says what to type.
 *
 * @returns {Promise<boolean>} whether everything is there now
 */
export async function ensureDebianPackages() {
  if (findProgram('dpkg-query') === undefined) {
    console.log(`Not a Debian system; the tests need what Debian calls ${Object.keys(PACKAGES).join(' ')}.`);
    return true;
  }
  const missing = await missingPackages();
  if (missing.length === 0) return true;
  const install = ['install', '-y', '--no-install-recommends', ...missing];
  if (process.getuid?.() !== 0) {
    console.error(`Debian packages are missing; as root: apt-get ${install.join(' ')}`);
    return false;
  }
  console.log(`Installing ${missing.join(' ')} ...`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  for (const args of [
    ['-q', 'update'],
    ['-q', ...install],
  ]) {
    const { status, output } = await capture('apt-get', args, { env });
    if (status !== 0) {
      console.error(`${output.trimEnd()}\napt-get ${args.join(' ')} failed`);
      return false;
    }
  }
  return true;
}

async function missingPackages() {
  const wanted = [...Object.keys(PACKAGES), ...separateVirtiofsd()];
  // Names that dpkg never heard of go to standard error and change nothing here.
  const { output } = await capture('dpkg-query', ['-W', '-f', '${db:Status-Abbrev} ${binary:Package}\n', ...wanted]);
  const installed = new Set(
    output
      .split('\n')
      .filter((line) => line.startsWith('ii '))
      .map((line) => line.slice(3).trim().replace(/:.*/, '')),
  );
  return wanted.filter((name) => !installed.has(name));
}

/** From Debian 13 on, virtiofsd is a package; on Debian 12 it comes with QEMU. */
function separateVirtiofsd() {
  const release = /^VERSION_ID="?(\d+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  return release === '12' ? [] : ['virtiofsd'];
}
