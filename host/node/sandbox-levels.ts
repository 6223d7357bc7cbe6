/** Levels of the sandbox: with what a process is started that looks at what a stranger has made. */

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** From the weakest to the strongest. */
export const SANDBOX_LEVELS = ['wasm', 'process', 'bwrap', 'landlock'] as const;

/**
 * wasm: the engine's own sandbox alone, in this process. process: a child that has the open file and Node's permission
 * model. bwrap: that child without network, and without files but Node's own. landlock: without network, other processes, and
 * whatever else a system call could change.
 */
export type SandboxLevel = (typeof SANDBOX_LEVELS)[number];

/** What the level keeps from what is looked at, for the report. */
const DETAILS: Readonly<Record<SandboxLevel, readonly string[]>> = {
  wasm: ['the engine in WebAssembly: no files, no clock, no network'],
  process: ["a process of its own: Node's permission model denies files, processes and threads", 'killed at its time'],
  bwrap: ['bubblewrap: no network, no capabilities, no files but those of Node'],
  landlock: ['Landlock and seccomp: no files but libraries, no network, no processes, no changes', 'bounded memory'],
};

const LAUNCHER = fileURLToPath(new URL('../../native/corral-sandbox', import.meta.url));

/** Bytes of private memory of a child: Node itself needs some hundred MiB of it. */
const DATA_LIMIT = 2 ** 31;
const HEAP_MIB = 512;
const CPU_GRACE_SECONDS = 30;
/** Of processor time, where there is no limit. */
const LONGEST_SECONDS = 86_400;

/** What is to be tried: what is asked for and nothing else, or everything from the strongest on, down to `least`. */
export function levelsToTry(choice: SandboxLevel | 'auto', least: SandboxLevel = 'wasm'): SandboxLevel[] {
  const strong = SANDBOX_LEVELS.slice(SANDBOX_LEVELS.indexOf(least)).toReversed();
  return choice === 'auto' ? strong : strong.filter((level) => level === choice);
}

/** Everything that the level takes away: that of the weaker ones, too. */
export function detailsOf(level: SandboxLevel): string[] {
  if (level === 'wasm') return [...DETAILS.wasm];
  const own = level === 'process' ? [] : DETAILS[level];
  return [...DETAILS.wasm, ...DETAILS.process, ...own];
}

export interface ChildCommand {
  readonly program: string;
  readonly args: readonly string[];
}

/** How a child of this level is started with this JavaScript; undefined where the level cannot be had. */
export function commandOf(
  level: Exclude<SandboxLevel, 'wasm'>,
  script: string,
  { maxTime }: { maxTime: number },
): ChildCommand | undefined {
  const node = process.execPath;
  const args = [...permissionFlags(), '--no-warnings', `--max-old-space-size=${HEAP_MIB}`, '-e', script];
  switch (level) {
    case 'process':
      return { program: node, args };
    case 'bwrap':
      return { program: 'bwrap', args: [...bubble(node), node, ...args] };
    case 'landlock': {
      if (!existsSync(LAUNCHER)) return undefined;
      const seconds = Math.min(Math.ceil(maxTime / 1000) + CPU_GRACE_SECONDS, LONGEST_SECONDS);
      return { program: LAUNCHER, args: ['--cpu', `${seconds}`, '--data', `${DATA_LIMIT}`, node, ...args] };
    }
  }
}

/** The name of the permission model's switch: it lost its prefix in 22.13 and 23.5. */
function permissionFlags(): string[] {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const plain = major > 23 || (major === 23 && minor >= 5) || (major === 22 && minor >= 13);
  return [plain ? '--permission' : '--experimental-permission'];
}

/** Nothing but Node and what it is linked with. */
function bubble(node: string): string[] {
  const shown = ['/usr/lib', '/usr/lib64', '/usr/local/lib', '/lib', '/lib64', '/etc/ld.so.cache', node];
  return [
    '--unshare-all',
    '--die-with-parent',
    '--new-session',
    '--cap-drop',
    'ALL',
    '--clearenv',
    ...shown.flatMap((path) => ['--ro-bind-try', path, path]),
  ];
}
