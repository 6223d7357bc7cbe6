/** What the programs say of their version. */

import { readFileSync } from 'node:fs';

/** The version of QEMU whose command lines and output the programs have. */
const QEMU_VERSION = '10.0.2';

/** This package's. */
export function packageVersion(): string {
  const description = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(description) as { version: string }).version;
}

/** The line of `--version`. Scripts that ask `qemu-img --version` want to know what they may use. */
export function versionLine(program: string): string {
  const version = packageVersion();
  return program.startsWith('qemu-')
    ? `${program} version ${QEMU_VERSION} (corral ${version})\n`
    : `${program} ${version}\n`;
}
