/** What the doctor looks at: this machine, or what a test puts in its place. */

import { existsSync, readFileSync } from 'node:fs';
import { arch, release } from 'node:os';
import type { Addon } from '../../node/addon.js';
import { requireAddon } from '../../node/addon.js';
import { packageVersion } from '../version.js';

export interface HostView {
  readonly platform: string;
  readonly arch: string;
  /** The kernel's release, as `uname -r` tells it. */
  readonly release: string;
  readonly nodeVersion: string;
  readonly corralVersion: string;
  /** The process's effective user. */
  readonly userId: number;
  exists(path: string): boolean;
  /** A file's text; undefined when it cannot be read. */
  readText(path: string): string | undefined;
  /** Throws ERR_ADDON_MISSING. */
  addon(): Pick<Addon, 'probeRing' | 'ublk'>;
}

/** This machine. */
export function thisHost(): HostView {
  return {
    platform: process.platform,
    arch: arch(),
    release: release(),
    nodeVersion: process.versions.node,
    corralVersion: packageVersion(),
    userId: process.geteuid?.() ?? -1,
    exists: existsSync,
    readText(path) {
      try {
        return readFileSync(path, 'utf8');
      } catch {
        return undefined;
      }
    },
    addon: requireAddon,
  };
}
