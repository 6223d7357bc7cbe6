/** Verbs that need the image to themselves: everything before them ends first, everything after them waits. */

import { expect, test } from 'vitest';
import { RequestFlag, RequestKind } from '../../host/abi.js';
import { Engine } from '../../host/engine.js';
import { Image } from '../../host/index.js';
import { MemoryFile } from '../../host/memory-file.js';
import { loadCore } from '../../host/node/core.js';

const CLUSTER = 65536;

test('closing waits for the writes that came before it, and makes them durable', async () => {
  const file = new MemoryFile();
  const engine = await openEngine(file);
  const writes = [0, 1, 2, 3].map((index) =>
    engine.run({
      kind: RequestKind.Write,
      guestOffset: index * CLUSTER,
      buffer: new Uint8Array(CLUSTER).fill(index + 1),
    }),
  );
  const closed = engine.run({ kind: RequestKind.Close });

  await Promise.all([...writes, closed]);

  await using image = await Image.open(file, { core: await loadCore() });
  const found = new Uint8Array(4 * CLUSTER);
  await image.read(0, found);
  expect([0, 1, 2, 3].map((index) => found[(index + 1) * CLUSTER - 1])).toEqual([1, 2, 3, 4]);
});

test('what comes after closing waits for it and is refused', async () => {
  const engine = await openEngine(new MemoryFile());
  const write = engine.run({ kind: RequestKind.Write, guestOffset: 0, buffer: new Uint8Array(CLUSTER) });
  const closed = engine.run({ kind: RequestKind.Close });
  const order: string[] = [];
  const late = [RequestKind.Read, RequestKind.Write].map((kind) =>
    engine.run({ kind, guestOffset: 0, buffer: new Uint8Array(512) }).then(
      () => order.push('answered'),
      () => order.push('refused'),
    ),
  );

  await Promise.all([write, closed.then(() => order.push('closed'))]);
  await Promise.all(late);

  expect(order).toEqual(['closed', 'refused', 'refused']);
});

async function openEngine(file: MemoryFile): Promise<Engine> {
  const core = await loadCore();
  await Image.create(file, { core, virtualSize: 1 << 20 });
  const engine = await Engine.start(file, { core, requestCapacity: 8, cacheSize: 0, checkSize: 0 });
  await engine.run({ kind: RequestKind.Open, flags: RequestFlag.Writable });
  return engine;
}
