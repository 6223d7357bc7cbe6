/** The events of a device as its readers see them. */
import { expect, test } from 'vitest';
import { CorralError } from '../../host/errors.js';
import { type UblkEvent, UblkEvents } from '../../host/node/ublk-events.js';

const STARTED: UblkEvent = { type: 'started', node: '/dev/ublkb7' };
const STOPPED: UblkEvent = { type: 'stopped', error: undefined };
const failure = (missed = 0): UblkEvent => ({ type: 'ioError', error: new CorralError('ERR_IO'), missed });

async function all(reader: AsyncIterable<UblkEvent>): Promise<UblkEvent[]> {
  const events: UblkEvent[] = [];
  for await (const event of reader) events.push(event);
  return events;
}

test('each reader gets everything since it asked, up to the end', async () => {
  const events = new UblkEvents();
  const early = events.iterate();
  events.emit(STARTED);
  const late = events.iterate();
  events.emit(STOPPED);
  events.emit(STARTED);

  expect(await all(early)).toEqual([STARTED, STOPPED]);
  expect(await all(late)).toEqual([STOPPED]);
});

test('a reader that waits gets an event when it comes', async () => {
  const events = new UblkEvents();
  const reader = events.iterate();
  const waiting = [reader.next(), reader.next(), reader.next()];

  events.emit(STARTED);
  events.emit(STOPPED);

  expect(await Promise.all(waiting)).toEqual([
    { done: false, value: STARTED },
    { done: false, value: STOPPED },
    { done: true, value: undefined },
  ]);
});

test('errors that nobody reads are counted and not kept, and the end still comes', async () => {
  const events = new UblkEvents();
  const reader = events.iterate();
  for (let each = 0; each < 1000; each++) events.emit(failure(1));
  const first = await reader.next();
  events.emit(failure());
  events.emit(STOPPED);

  const rest = await all(reader);

  const told = [first.value as UblkEvent, ...rest].filter((event) => event.type === 'ioError');
  expect(told.length).toBeLessThan(300);
  expect(told.reduce((sum, { missed }) => sum + 1 + missed, 0)).toBe(2001);
  expect(rest.at(-1)).toEqual(STOPPED);
});

test('a reader that leaves hears nothing more', async () => {
  const events = new UblkEvents();
  const reader = events.iterate();
  await reader.return?.();
  events.emit(STARTED);

  expect(await all(reader)).toEqual([]);
});
