import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { EventType, requireAddon, TurnMode } from '../../host/node/addon.js';
import { RingFixture } from './ring-fixture.js';

test('a wake before the turn is not lost', () => {
  using fixture = new RingFixture();

  fixture.ring.wake();

  expect(fixture.turn([], TurnMode.Wait).map(({ type }) => type)).toEqual([EventType.Control]);
});

test('each wake after a Control event is a new one', () => {
  using fixture = new RingFixture();

  const seen = [1, 2, 3].map(() => {
    fixture.ring.wake();
    return fixture.turn([], TurnMode.Wait).length;
  });

  expect(seen).toEqual([1, 1, 1]);
  expect(fixture.turn([], TurnMode.Poll)).toEqual([]);
});

test('a worker that is blocked in a turn comes back when the main thread wakes it', async () => {
  const { Waker } = requireAddon();
  const worker = new Worker(new URL('blocked-worker.mjs', import.meta.url), {
    workerData: new URL('../../dist/native/corral.node', import.meta.url).pathname,
  });
  const [descriptor] = (await once(worker, 'message')) as [number];
  const waker = new Waker(descriptor);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const woken = once(worker, 'message') as Promise<[{ type: number; waited: number }]>;
  // Asked for now: a worker that ends at once has its last message and its end told in one turn.
  const ended = once(worker, 'exit');

  waker.wake();

  const [{ type, waited }] = await woken;
  expect(type).toBe(EventType.Control);
  expect(waited).toBeGreaterThan(40);
  await ended;
  waker.wake(); // the ring is gone, its counter is still ours
  waker.close();
});

test('a waker needs a descriptor that is open', () => {
  const { Waker } = requireAddon();

  expect(() => new Waker(-1)).toThrow(/Bad file descriptor/);
});

test('a waker refuses a descriptor that has become a file: a wake would be a write to it', () => {
  const { Waker } = requireAddon();
  const descriptor = openSync(new URL(import.meta.url), 'r');

  expect(() => new Waker(descriptor)).toThrow(/Invalid argument/);
  closeSync(descriptor);
});
