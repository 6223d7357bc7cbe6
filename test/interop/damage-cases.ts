/** Images with one kind of damage each, and what is wrong with them then. */

import { copyFileSync } from 'node:fs';
import { madeOnce } from '../made-once.js';
import { COPIED, Damage, io, makeImage, OFFSET, snapshot } from './check-fixture.js';

export const CLUSTER = 4096;
const RESERVED = 1n << 57n;
/** Compressed data of as many sectors as an entry can say with clusters of this size: 8 KiB. */
const MOST_SECTORS = 0xfn << 58n;

/** Two L2 tables, data in guest clusters 0-9 and 600-603, 20 and 21 compressed, no snapshot. */
export function plainImage(): Damage {
  const at = (cluster: number) => cluster * CLUSTER;
  return new Damage(
    makeImage({ clusterSize: CLUSTER, size: 8 << 20 }, [
      `write 0 ${at(10)}`,
      `write -c -P 3 ${at(20)} ${CLUSTER}`,
      `write -c -P 4 ${at(21)} ${CLUSTER}`,
      `write ${at(600)} ${at(4)}`,
      `write -z ${at(8)} ${CLUSTER}`,
    ]),
  );
}

/** As `plainImage`, with two snapshots and some clusters written since. */
export function imageWithSnapshots(): Damage {
  const path = madeOnce('snapshots', (copy) => {
    copyFileSync(plainImage().path, copy);
    snapshot(copy, 'one');
    io(copy, [`write 0 ${2 * CLUSTER}`]);
    snapshot(copy, 'two');
    io(copy, [`write ${5 * CLUSTER} ${CLUSTER}`]);
  });
  return new Damage(path);
}

export interface DamageCase {
  name: string;
  damage(image: Damage): void;
  corruptions: number;
  leaks: number;
  /** What nobody can repair without losing data, in corruptions and leaks; QEMU leaves the corruptions too. */
  left?: readonly [corruptions: number, leaks: number];
  /** QEMU repairs something else, or counts it otherwise. */
  repairedOtherwise?: true;
}

export const damageCases: readonly DamageCase[] = [
  {
    name: 'a refcount of a cluster beyond the end of the file is not looked at',
    damage: (image) => image.setRefcount(200, 1),
    corruptions: 0,
    leaks: 0,
  },
  {
    name: 'a data cluster that no entry names any more leaks',
    damage: (image) => image.set(image.l2(2), 0n),
    corruptions: 0,
    leaks: 1,
  },
  {
    name: 'a refcount one too high is a leak, and COPIED is wrong',
    damage: (image) => image.setRefcount(image.hostCluster(2), 2),
    corruptions: 1,
    leaks: 1,
  },
  {
    name: 'a refcount of zero is a corruption, and COPIED is wrong',
    damage: (image) => image.setRefcount(image.hostCluster(2), 0),
    corruptions: 2,
    leaks: 0,
  },
  {
    name: 'the refcount of an L2 table too high: a leak, and COPIED of the L1 entry is wrong',
    damage: (image) => image.setRefcount(Number(image.word(image.l1(0)) & OFFSET) / CLUSTER, 7),
    corruptions: 1,
    leaks: 1,
  },
  {
    name: 'a refcount of the header too low',
    damage: (image) => image.setRefcount(0, 0),
    corruptions: 1,
    leaks: 0,
  },
  {
    name: 'COPIED missing in an L1 entry',
    damage: (image) => image.flip(image.l1(0), COPIED),
    corruptions: 1,
    leaks: 0,
  },
  {
    name: 'COPIED missing in L2 entries of data and of preallocated zeros',
    damage(image) {
      image.flip(image.l2(3), COPIED);
      image.flip(image.l2(8), COPIED);
    },
    corruptions: 2,
    leaks: 0,
  },
  {
    name: 'COPIED on a compressed cluster',
    damage: (image) => image.flip(image.l2(20), COPIED),
    corruptions: 1,
    leaks: 0,
    repairedOtherwise: true,
  },
  {
    name: 'an L2 entry far beyond the end of the file: the entry, its flag, and the cluster that it left',
    damage: (image) => image.set(image.l2(4), 0x4000000000n | COPIED),
    corruptions: 2,
    leaks: 1,
    left: [1, 1],
  },
  {
    name: 'an L1 entry beyond the end of the file leaves its table and all that it mapped',
    damage: (image) => image.set(image.l1(1), 0x4000000000n),
    corruptions: 1,
    leaks: 5,
    left: [1, 5],
  },
  {
    name: 'a compressed cluster beyond the end of the file',
    damage: (image) => image.set(image.l2(21), (1n << 62n) | 0x123456789n),
    corruptions: 1,
    leaks: 1,
    left: [1, 1],
  },
  {
    name: 'compressed clusters that reach over the next one: its flag is wrong once its refcount is right',
    damage: (image) => {
      for (const cluster of [20, 21]) image.set(image.l2(cluster), image.word(image.l2(cluster)) | MOST_SECTORS);
    },
    corruptions: 1,
    leaks: 0,
  },
  {
    name: 'a data cluster that is not aligned touches two',
    damage: (image) => image.flip(image.l2(3), 512n),
    corruptions: 2,
    leaks: 0,
    left: [1, 0],
  },
  {
    name: 'preallocated zeros that are not aligned',
    damage: (image) => image.flip(image.l2(8), 1024n),
    corruptions: 2,
    leaks: 0,
    repairedOtherwise: true,
  },
  {
    name: 'reserved bits in L1 and L2 entries',
    damage(image) {
      image.flip(image.l1(0), RESERVED | 4n);
      image.flip(image.l2(3), RESERVED);
      image.flip(image.l2(100), 128n);
    },
    corruptions: 3,
    leaks: 0,
    left: [3, 0],
  },
  {
    name: 'reserved bits in a refcount table entry: the block is used, but nobody owns it',
    damage: (image) => image.flip(image.refcountTableOffset, 256n),
    corruptions: 1,
    leaks: 1,
    repairedOtherwise: true,
  },
  {
    name: 'a refcount block named twice',
    damage: (image) => image.set(image.refcountTableOffset + 8, BigInt(image.blockOffset)),
    corruptions: 2,
    leaks: 0,
  },
  {
    name: 'a refcount block beyond the end of the file',
    damage: (image) => image.set(image.refcountTableOffset + 8, 0x4000000000n),
    corruptions: 1,
    leaks: 0,
    repairedOtherwise: true,
  },
  {
    name: 'a refcount block that is the L1 table as well',
    damage: (image) => image.set(image.refcountTableOffset + 8, BigInt(image.l1Offset)),
    corruptions: 2,
    leaks: 0,
  },
  {
    name: 'no refcount block at all: every cluster in use is a corruption, every flag is wrong',
    damage: (image) => image.set(image.refcountTableOffset, 0n),
    corruptions: 36,
    leaks: 0,
  },
  {
    name: 'one L2 table in two L1 entries: all that it maps has two references',
    damage: (image) => image.set(image.l1(1), image.word(image.l1(0))),
    corruptions: 12,
    leaks: 5,
  },
  {
    name: 'data entries that point at the header, the L1 table, the refcount table and a block',
    damage(image) {
      image.set(image.l2(40), BigInt(image.l1Offset) | COPIED);
      image.set(image.l2(41), BigInt(image.refcountTableOffset) | COPIED);
      image.set(image.l2(42), BigInt(image.blockOffset) | COPIED);
      image.set(image.l2(43), 512n);
    },
    corruptions: 7,
    leaks: 0,
    left: [1, 0],
  },
  {
    name: 'an L2 table that is a data cluster as well',
    damage: (image) => image.set(image.l2(50), image.word(image.l1(1))),
    corruptions: 1,
    leaks: 0,
  },
];

export const snapshotDamageCases: readonly DamageCase[] = [
  {
    name: 'a snapshot whose L1 table is not aligned is not followed',
    damage: (image) => image.flip(image.snapshotsOffset, 512n),
    corruptions: 1,
    leaks: 18,
    left: [1, 18],
  },
  {
    name: 'a snapshot whose L1 table lies beyond the end of the file',
    damage: (image) => image.set(image.snapshotsOffset, 0x4000000000n),
    corruptions: 1,
    leaks: 18,
    left: [1, 18],
  },
  {
    name: 'a snapshot whose L1 table is too large',
    damage: (image) => image.bytes.writeUInt32BE(5000000, image.snapshotsOffset + 8),
    corruptions: 1,
    leaks: 18,
    left: [1, 18],
  },
  {
    name: 'wrong entries in the L1 and L2 tables of a snapshot: COPIED is not judged there',
    damage(image) {
      const l1 = image.number(image.snapshotsOffset);
      const table = Number(image.word(l1) & OFFSET);
      image.flip(l1, COPIED | RESERVED);
      image.flip(table, COPIED | RESERVED);
    },
    corruptions: 2,
    leaks: 0,
    left: [2, 0],
  },
  {
    name: 'a wrong entry in a table that two share counts twice',
    damage: (image) => image.flip(image.l2(601), RESERVED),
    corruptions: 3,
    leaks: 0,
    left: [3, 0],
  },
];
