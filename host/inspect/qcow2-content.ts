/** The disks in a qcow2 image as bytes: the active one, and each snapshot's. */

import { RequestKind } from '../abi.js';
import type { Codec } from '../codec/codec.js';
import { Engine } from '../engine.js';
import { CorralError } from '../errors.js';
import type { Reader } from '../filesystem/reader.js';
import { openRequest } from '../open-options.js';
import type { Snapshot } from '../snapshot-record.js';
import { type DiskReport, inspectDisk } from './content.js';
import type { Findings } from './findings.js';
import type { MeteredFile } from './metered-file.js';
import { imageText } from './names.js';
import type { Qcow2Header } from './qcow2-header.js';
import type { RuleId } from './rules.js';

/** Bytes of tables that are held while a disk is read. */
const CACHE_SIZE = 262144;

/** Rules that need the bytes of a disk. */
export const CONTENT_RULES: readonly RuleId[] = [
  'content.nested-format',
  'content.nested-partition',
  'content.unreadable',
  'content.partition-table',
  'content.fs-id',
];

export interface ContentOptions {
  readonly core: WebAssembly.Module;
  readonly codec: Codec;
  readonly signal: AbortSignal | undefined;
  /** Snapshots to look into at most. */
  readonly maxSnapshots: number;
}

/**
 * Looks at the active disk and at every snapshot's. What a backing file would hold reads as zeros: it is not opened. Empty
 * for disks that lie in another file or are encrypted: what they hold cannot be known.
 */
export async function readContent(
  file: MeteredFile,
  header: Qcow2Header,
  snapshots: readonly Snapshot[],
  options: ContentOptions,
  findings: Findings,
): Promise<DiskReport[]> {
  const { facts } = header;
  if (facts.hasDataFile || facts.encryption !== 'none') {
    findings.skip(CONTENT_RULES);
    return [];
  }
  const disks = await readDisk(file, undefined, snapshots, options, findings);
  const keys = snapshots.map(({ idBytes, nameBytes }) => `${imageText(idBytes).text}/${imageText(nameBytes).text}`);
  for (const [index, snapshot] of snapshots.entries()) {
    if (index === options.maxSnapshots) {
      const numbers = { value: snapshots.length, limit: options.maxSnapshots };
      findings.add('limit.snapshots', 'Not every snapshot was looked into', numbers);
      break;
    }
    if (keys.indexOf(keys[index] as string) < index) {
      findings.add('inspect.unsupported', 'A snapshot with the id and name of another one cannot be read', {
        value: index,
      });
      continue;
    }
    disks.push(...(await readDisk(file, index, [snapshot], options, findings)));
  }
  return disks;
}

async function readDisk(
  file: MeteredFile,
  index: number | undefined,
  [snapshot]: readonly Snapshot[],
  { core, codec, signal }: ContentOptions,
  findings: Findings,
): Promise<DiskReport[]> {
  const backing = { read: async (_offset: number, target: Uint8Array) => void target.fill(0) };
  const engine = await Engine.start(file, {
    core,
    codec,
    backing,
    requestCapacity: 1,
    cacheSize: CACHE_SIZE,
    checkSize: 0,
  });
  const selected = index === undefined || snapshot === undefined ? {} : { snapshot: selectionOf(snapshot) };
  try {
    const { virtualSize } = await engine.run(openRequest({ core, ...selected }, false));
    const disk = diskReader(engine, virtualSize, signal);
    return [await inspectDisk(disk, findings, { snapshot: index, isFile: false })];
  } catch (error) {
    if (error instanceof CorralError && error.code === 'ERR_NOT_FOUND') {
      findings.add('inspect.unsupported', 'A snapshot without id and name cannot be read', { value: index });
      return [];
    }
    if (!(error instanceof CorralError) || error.code !== 'ERR_IMAGE_CORRUPT') throw error;
    const { hostOffset, found, limit } = error.details;
    const what = index === undefined ? 'The disk cannot be read' : 'A snapshot cannot be read';
    findings.add('content.unreadable', what, { offset: hostOffset, value: found, limit });
    return [];
  }
}

function selectionOf({ idBytes, nameBytes }: Snapshot): { id: Uint8Array; name: Uint8Array } {
  return { id: idBytes, name: nameBytes };
}

function diskReader(engine: Engine, length: number, signal: AbortSignal | undefined): Reader {
  return {
    length,
    async bytes(offset, count) {
      const target = new Uint8Array(count);
      const inside = Math.max(0, Math.min(count, length - offset));
      if (inside === 0) return target;
      const buffer = target.subarray(0, inside);
      await engine.run({ kind: RequestKind.Read, guestOffset: offset, buffer, signal });
      return target;
    },
  };
}
