/** What an image tells of the program that made it. Signs, not proofs: whoever wants to can write any of them. */

import type { BlockFile } from '../../../host/block-file.js';
import type { ImageFacts } from '../../../host/image-facts.js';
import type { Snapshot } from '../../../host/snapshot-record.js';
import type { Trace } from '../protocol.js';
import { readExtensions } from './host-tables.js';

const EXTENSION_NAMES: Readonly<Record<number, string>> = {
  3799591626: 'backing format',
  1745090647: 'feature names',
  595929205: 'bitmaps',
  87539319: 'encryption header',
  1145132097: 'data file name',
};
const FEATURE_NAMES = 0x6803_f857;
const FEATURE_NAME_LENGTH = 48;
const HEADER_LENGTH_FIELD = 100;

/** In the order in which they are shown. */
export async function tracesOf(
  file: Pick<BlockFile, 'read'>,
  facts: ImageFacts,
  snapshots: readonly Snapshot[],
): Promise<Trace[]> {
  const traces: Trace[] = [await headerLength(file, facts)];
  const { all } = await readExtensions(file, facts);
  if (all.length > 0) {
    const names = all.map(({ type }) => EXTENSION_NAMES[type] ?? `unknown (0x${type.toString(16).padStart(8, '0')})`);
    traces.push({ what: 'Header extensions, in this order', tells: names.join(', ') });
  }
  const features = all.find(({ type }) => type === FEATURE_NAMES);
  if (features !== undefined) {
    const count = Math.floor((features.length - 8) / FEATURE_NAME_LENGTH);
    traces.push({ what: 'Table of feature names', tells: `${count} names: the features that its writer knew` });
  }
  traces.push(tables(facts));
  const dates = snapshots.map(({ date }) => date.getTime());
  if (dates.length > 0) {
    const [first, last] = [Math.min(...dates), Math.max(...dates)].map((time) => new Date(time).toISOString());
    traces.push({ what: 'Snapshots were made', tells: first === last ? `${first}` : `from ${first} to ${last}` });
  }
  return traces;
}

async function headerLength(file: Pick<BlockFile, 'read'>, { version }: ImageFacts): Promise<Trace> {
  if (version === 2) return { what: 'Header of version 2', tells: 'compat=0.10: QEMU before 1.7, or on request' };
  const bytes = new Uint8Array(4);
  await file.read(HEADER_LENGTH_FIELD, bytes);
  const length = new DataView(bytes.buffer).getUint32(0);
  const what = `Header of ${length} bytes`;
  if (length === 104) return { what, tells: 'the first form of version 3: QEMU 1.1 to 5.0, and many other programs' };
  if (length === 112) return { what, tells: 'with the compression type: QEMU 5.1 or newer' };
  return { what, tells: 'no form that QEMU writes' };
}

function tables({ refcountTableOffset, l1TableOffset, clusterSize }: ImageFacts): Trace {
  const [refcounts, l1] = [refcountTableOffset / clusterSize, l1TableOffset / clusterSize];
  const what = `Refcount table in cluster ${refcounts}, L1 table in cluster ${l1}`;
  if (refcounts === 1 && l1 === 3) return { what, tells: 'where qemu-img create puts them in a new image' };
  return { what, tells: 'not where qemu-img create puts them: moved since, or made by another program' };
}
