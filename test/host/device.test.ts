/** Storage that cannot grow: an image on a block device. */

import { expect, test } from 'vitest';
import { Image } from '../../host/image.js';
import { MemoryFile } from '../../host/memory-file.js';
import { loadCore } from '../../host/node/core.js';
import { expectSameBytes } from '../same-bytes.js';

const core = loadCore();
const MIB = 1 << 20;

/** As long as it is, full of what was there before, and writes beyond its end fail. */
class Device extends MemoryFile {
  override readonly zeroBeyondEnd: boolean = false;

  constructor(
    contents: Uint8Array,
    private readonly deviceLength = contents.length,
  ) {
    super(contents);
  }

  override async write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (offset + length > this.deviceLength) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    await super.write(offset, pieces);
  }
}

test.each([512, 4096, 65536])('a device can be filled, with clusters of %i bytes', async (clusterSize) => {
  const made = new MemoryFile();
  await Image.create(made, { core, virtualSize: 64 * MIB, clusterSize });
  const contents = new Uint8Array(32 * MIB).fill(0xa7);
  contents.set(made.contents());
  const device = new Device(contents);
  await using image = await Image.open(device, { core, write: true });

  let written = 0;
  const full = async (): Promise<void> => {
    for (; written < 64; written++) await image.write(written * MIB, new Uint8Array(MIB - 512).fill(written + 1));
  };
  await expect(full()).rejects.toMatchObject({ code: 'ERR_NO_SPACE' });

  // Tables take less than a tenth.
  expect(written).toBeGreaterThan(28);
  await image.flush();
  for (let index = 0; index < written; index++) {
    const target = new Uint8Array(MIB);
    await image.read(index * MIB, target);
    expectSameBytes(target.subarray(0, MIB - 512), new Uint8Array(MIB - 512).fill(index + 1), `MiB ${index}`);
    expectSameBytes(target.subarray(MIB - 512), new Uint8Array(512), `end of MiB ${index}`);
  }
});
