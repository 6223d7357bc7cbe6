/** Keeping a number of requests in flight on a ring engine. */
import { Status } from '../../dist/host/abi.js';
import { TurnMode } from '../../dist/host/node/addon.js';

/**
 * Runs `total` requests, `depth` of them at once.
 *
 * @param {import('../../host/node/ring-engine.js').RingEngine} engine
 * @param {number} depth
 * @param {number} total
 * @param {(slot: number) => void} start sends the next request from this slot
 * @param {number} firstSlot
 */
export function keepInFlight(engine, depth, total, start, firstSlot = 0) {
  const { finished } = engine;
  let started = 0;
  let done = 0;
  engine.locked(() => {
    for (let slot = firstSlot; slot < firstSlot + depth && started < total; slot++, started++) start(slot);
  });
  while (done < total) {
    // A request that needs no operation has ended by now, and nothing else may be under way.
    if (engine.finishedCount === 0) engine.step(TurnMode.Wait);
    engine.locked(goOn);
  }

  function goOn() {
    const end = 2 * engine.finishedCount;
    engine.finishedCount = 0;
    for (let position = 0; position < end; position += 2) {
      if (finished[position + 1] !== Status.Ok)
        throw new Error(`a request ended with status ${finished[position + 1]}`);
      done++;
      if (started < total) {
        started++;
        start(finished[position]);
      }
    }
  }
}
