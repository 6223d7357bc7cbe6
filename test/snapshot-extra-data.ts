/** Images of writers that say less of their snapshots than QEMU does now. */

/** Rewrites the snapshot table of the image, in place, with at most `extra` bytes of extra data in each entry. */
export function shortenExtraData(bytes: Buffer, extra: number): void {
  let start = Number(bytes.readBigUInt64BE(64));
  let target = start;
  for (let index = bytes.readUInt32BE(60); index > 0; index--) {
    const length = bytes.readUInt32BE(start + 36);
    const names = start + 40 + length;
    const end = names + bytes.readUInt16BE(start + 12) + bytes.readUInt16BE(start + 14);
    bytes.writeUInt32BE(Math.min(extra, length), start + 36);
    const head = Buffer.from(bytes.subarray(start, start + 40 + Math.min(extra, length)));
    const shorter = Buffer.concat([head, bytes.subarray(names, end), Buffer.alloc(8)]);
    start = (end + 7) & ~7;
    const room = (shorter.length - 8 + 7) & ~7;
    shorter.copy(bytes, target, 0, room);
    target += room;
  }
}
