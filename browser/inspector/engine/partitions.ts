/** What a disk is divided into. */

import type { Reader } from '../../../host/filesystem/reader.js';
import { inspectDisk } from '../../../host/inspect/content.js';
import { Findings } from '../../../host/inspect/findings.js';
import { policyOf } from '../../../host/inspect/policy.js';
import type { PartitionList, State } from '../protocol.js';
import type { GuestDisk } from './disk.js';
import type { Session } from './session.js';

/** The partitions of a state; a disk without a table is one partition. */
export async function partitionsOf(session: Session, state: State, signal: AbortSignal): Promise<PartitionList> {
  const { disk } = await session.view(state);
  const findings = new Findings(policyOf('forensic'));
  const { table, holds, partitions } = await inspectDisk(readerOf(disk, signal), findings, { isFile: true });
  const rows = partitions.map(({ offset, length, type, holds: content }, index) => ({
    index,
    offset: Number(offset),
    length: Number(length),
    type: type ?? '',
    holds: content,
  }));
  const whole = { index: 0, offset: 0, length: disk.size, type: 'whole disk', holds };
  const all = table === undefined ? [whole] : rows;
  return { table, partitions: all };
}

function readerOf(disk: GuestDisk, signal: AbortSignal): Reader {
  return {
    length: disk.size,
    async bytes(offset, length) {
      const target = new Uint8Array(length);
      const inside = Math.max(0, Math.min(length, disk.size - offset));
      if (inside > 0) await disk.read(offset, target.subarray(0, inside), signal);
      return target;
    },
  };
}
