/** A cluster that lost its last reference is not used again while a read of its bytes is under way. */

import { expect, test } from 'vitest';
import { type Image, MemoryFile, Image as OpenImage } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { COPIED, ImageBuilder } from './image-builder.js';

const CLUSTER = 4096;

/** A file in which a read that begins at a certain offset ends when it is told to. */
class SlowFile extends MemoryFile {
  private release = (): void => {};
  private readonly held = new Promise<void>((resolve) => {
    this.release = resolve;
  });

  constructor(
    bytes: Uint8Array,
    private readonly slowOffset: number,
  ) {
    super(bytes);
  }

  override async read(offset: number, target: Uint8Array): Promise<void> {
    if (offset === this.slowOffset) await this.held;
    await super.read(offset, target);
  }

  goOn(): void {
    this.release();
  }
}

test('a read that began before its cluster was replaced finds its own bytes', async () => {
  const builder = new ImageBuilder({ clusterBits: 12 });
  builder.setWord(24, BigInt(32 * CLUSTER));
  const table = builder.take();
  const data = builder.take();
  builder.setL1(0, BigInt(table) | COPIED);
  // Without COPIED a write replaces the cluster, whose last reference this is.
  builder.setWord(table, BigInt(data));
  builder.bytes.fill(7, data, data + CLUSTER);
  const file = new SlowFile(builder.bytes, data + 2048);
  const image = await OpenImage.open(file, { core: loadCore(), write: true });
  const target = new Uint8Array(512);
  const reading = image.read(2048, target);

  await image.write(0, new Uint8Array(512).fill(1));
  await fill(image, 1, 8);
  const whileReading = await hostOffsets(image);
  file.goOn();
  await reading;
  await fill(image, 8, 16);
  const afterwards = await hostOffsets(image);
  await image.close();

  expect([...new Set(target)]).toEqual([7]);
  expect(whileReading).not.toContain(data);
  expect(afterwards).toContain(data);
});

/** Writes whole clusters of the disk, each durable before the next. */
async function fill(image: Image, first: number, end: number): Promise<void> {
  for (let cluster = first; cluster < end; cluster++) {
    await image.write(cluster * CLUSTER, new Uint8Array(CLUSTER).fill(9));
    await image.flush();
  }
}

/** Where each cluster of the disk lies. */
async function hostOffsets(image: Image): Promise<number[]> {
  const offsets: number[] = [];
  for await (const { kind, length, hostOffset = 0 } of image.map()) {
    for (let at = 0; kind === 'data' && at < length; at += CLUSTER) offsets.push(hostOffset + at);
  }
  return offsets;
}
