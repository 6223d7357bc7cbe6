/**
 * Images of any size with real tables and no data: every allocated cluster is a hole of the file, so that the tables are
 * all that is read and written. Version 3, 64 KiB clusters, 16-bit refcounts.
 */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { scatteringStep } from './scatter.mjs';

export const CLUSTER = 65536;
const ENTRIES = CLUSTER / 8;
const REFCOUNTS = CLUSTER / 2;
const COPIED = 0x80000000;

/** One cluster in so many, those with remainder 0, is allocated first; those with remainder 1 never are. */
export const STRIDE = 128;

/**
 * The first `allocated` guest clusters, of `count` in all, of an order in which no two neighbours are near each other.
 *
 * @param {number} count
 * @param {number} allocated
 */
function* scattered(count, allocated) {
  const step = scatteringStep(count);
  let given = 0;
  for (const remainder of [0, undefined]) {
    let cluster = 0;
    for (let index = 0; index < count && given < allocated; index++) {
      const found = cluster % STRIDE;
      if (remainder === undefined ? found > 1 : found === remainder) {
        given++;
        yield cluster;
      }
      cluster = (cluster + step) % count;
    }
  }
}

/**
 * Writes an image of which `allocated` guest clusters lie one behind the other in the file, scattered over the disk; with
 * `gaps` only every second host cluster is in use.
 *
 * @param {string} path
 * @param {{ virtualSize: number, allocated: number, gaps?: boolean }} options
 */
export function makeEngineImage(path, { virtualSize, allocated, gaps = false }) {
  const count = virtualSize / CLUSTER;
  const tables = Math.ceil(count / ENTRIES);
  const l1Clusters = Math.ceil((tables * 8) / CLUSTER);
  const spacing = gaps ? 2 : 1;
  let blocks = 1;
  while (blocks * REFCOUNTS < 2 + blocks + l1Clusters + tables + allocated * spacing) blocks++;
  const l1 = 2 + blocks;
  const l2 = l1 + l1Clusters;
  const data = l2 + tables;
  const total = data + allocated * spacing;

  const descriptor = openSync(path, 'w');
  writeSync(descriptor, header(virtualSize, tables, l1), 0, 512, 0);
  const table = Buffer.alloc(CLUSTER);
  for (let block = 0; block < blocks; block++) table.writeBigUInt64BE(BigInt((2 + block) * CLUSTER), block * 8);
  writeSync(descriptor, table, 0, CLUSTER, CLUSTER);
  for (let block = 0; block < blocks; block++) {
    table.fill(0);
    for (let index = 0; index < REFCOUNTS; index++) {
      const cluster = block * REFCOUNTS + index;
      const used = cluster < data || (cluster < total && !(gaps && (cluster - data) % 2 === 1));
      if (used) table.writeUInt16BE(1, index * 2);
    }
    writeSync(descriptor, table, 0, CLUSTER, (2 + block) * CLUSTER);
  }
  /** Host clusters of the guest clusters, 0 for none. */
  const hosts = new Int32Array(tables * ENTRIES);
  let host = data;
  for (const cluster of scattered(count, allocated)) {
    hosts[cluster] = host;
    host += spacing;
  }
  const l1Table = Buffer.alloc(l1Clusters * CLUSTER);
  for (let number = 0; number < tables; number++) {
    writeEntry(l1Table, number, (l2 + number) * CLUSTER);
    table.fill(0);
    for (let index = 0; index < ENTRIES; index++) {
      const cluster = hosts[number * ENTRIES + index] ?? 0;
      if (cluster !== 0) writeEntry(table, index, cluster * CLUSTER);
    }
    writeSync(descriptor, table, 0, CLUSTER, (l2 + number) * CLUSTER);
  }
  writeSync(descriptor, l1Table, 0, l1Table.length, l1 * CLUSTER);
  ftruncateSync(descriptor, total * CLUSTER);
  closeSync(descriptor);
}

/**
 * @param {Buffer} table
 * @param {number} index
 * @param {number} offset
 */
function writeEntry(table, index, offset) {
  table.writeUInt32BE((Math.floor(offset / 2 ** 32) | COPIED) >>> 0, index * 8);
  table.writeUInt32BE(offset >>> 0, index * 8 + 4);
}

/**
 * @param {number} virtualSize
 * @param {number} tables
 * @param {number} l1
 */
function header(virtualSize, tables, l1) {
  const bytes = Buffer.alloc(512);
  bytes.writeUInt32BE(0x514649fb, 0);
  bytes.writeUInt32BE(3, 4);
  bytes.writeUInt32BE(16, 20);
  bytes.writeBigUInt64BE(BigInt(virtualSize), 24);
  bytes.writeUInt32BE(tables, 36);
  bytes.writeBigUInt64BE(BigInt(l1 * CLUSTER), 40);
  bytes.writeBigUInt64BE(BigInt(CLUSTER), 48);
  bytes.writeUInt32BE(1, 56);
  bytes.writeUInt32BE(4, 96);
  bytes.writeUInt32BE(112, 100);
  return bytes;
}
