/** Compressed clusters share host clusters, but not one that the file is being asked to discard. */

import { describe, expect, test } from 'vitest';
import { Image, MemoryFile } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { nodeCodec } from '../../host/node/node-codec.js';
import { compileMutated } from './mutated-core.js';

const CLUSTER = 4096;

/** A file in which a discard is asked for, and done when it is told to. */
class SlowFile extends MemoryFile {
  readonly asked: Promise<void>;
  private tell = (): void => {};
  private goOn = (): void => {};
  private readonly held = new Promise<void>((resolve) => {
    this.goOn = resolve;
  });

  constructor() {
    super();
    this.asked = new Promise((resolve) => {
      this.tell = resolve;
    });
  }

  override async discard(offset: number, length: number): Promise<void> {
    this.tell();
    await this.held;
    await super.discard(offset, length);
  }

  release(): void {
    this.goOn();
  }
}

/** What the guest reads of the second cluster, which was written in compressed form while the first one was discarded. */
async function readSecond(core: WebAssembly.Module): Promise<Uint8Array> {
  const file = new SlowFile();
  await Image.create(file, { core: loadCore(), virtualSize: 16 * CLUSTER, clusterSize: CLUSTER });
  const image = await Image.open(file, { core, codec: nodeCodec, write: true });
  await image.writeCompressed(0, new Uint8Array(CLUSTER).fill(1));
  await image.discard(0, CLUSTER);
  await image.flush();
  await file.asked;

  await image.writeCompressed(CLUSTER, new Uint8Array(CLUSTER).fill(2));
  file.release();
  await image.close();

  const found = new Uint8Array(CLUSTER);
  await using reopened = await Image.open(file, { core: loadCore(), codec: nodeCodec });
  await reopened.read(CLUSTER, found);
  return found;
}

describe('a compressed cluster that is written during a discard', () => {
  test('is there afterwards', async () => {
    const found = await readSecond(loadCore());

    expect(new Set(found)).toEqual(new Set([2]));
  });

  test('would be lost, if it were packed into what is discarded', async () => {
    const core = await compileMutated({
      file: 'image/reclaim.ts',
      find: '        forgetPacking(image, run.cluster, count);\n',
      replace: '',
    });

    await expect(readSecond(core)).rejects.toMatchObject({ code: 'ERR_IMAGE_CORRUPT' });
  });
});
