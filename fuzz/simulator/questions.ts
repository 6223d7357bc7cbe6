/** What the guest's host asks while the guest works, and what changes nothing: a map of the disk, a list of snapshots. */

import { ExtentKind, ExtentView, RequestKind, SnapshotRecordView } from '../../host/abi.js';
import type { Administrator } from './control-requests.js';
import type { Engine } from './engine.js';
import { SECTOR } from './pattern.js';
import type { Question, Sent, World } from './sent.js';
import { SimulationFailure } from './trace.js';

const EXTENT_SIZE = 32;
const RECORD_SIZE = 72;
const ONE_DIGIT = 0x30;

/** Sends one into a slot. It has the page until its answer. */
export function sendQuestion({ world, engine, healed }: Administrator, slot: number): Sent {
  const { random, model, trace, size } = world;
  const maps = random.chance(0.7);
  const offset = maps ? random.below(size / SECTOR) * SECTOR : 0;
  const length = maps ? random.between(1, size - offset) : 0;
  const kind = maps ? RequestKind.Map : RequestKind.SnapshotList;
  const cells = maps ? model.certainCells(offset, offset + length) : new Map<number, number>();
  const submittedAt = model.clock++;
  trace.note(() => `slot ${slot}: ${maps ? `map at ${offset}, ${length} bytes` : 'list of snapshots'}`);
  engine.submit(slot, kind, 0, offset, length);
  return {
    request: { verb: 'question', firstCell: 0, endCell: 0 },
    write: undefined,
    question: { kind, offset, length, cells },
    submittedAt,
    // Nothing has to be written for it.
    mustSucceed: healed,
    mustFail: false,
    cancelled: false,
  };
}

/** Judges what the page says; the request in `slot` has just ended well. */
export function judgeAnswer(question: Question, slot: number, world: World, engine: Engine): void {
  const { result } = engine.core.request(slot);
  if (question.kind === RequestKind.Map) judgeMap(question, result, world, engine);
  else judgeList(result, world, engine);
}

function judgeMap({ offset, length, cells }: Question, count: number, { model }: World, { core }: Engine): void {
  const view = new ExtentView(core.memory);
  const kinds: { end: number; kind: ExtentKind }[] = [];
  let at = offset;
  for (let index = 0; index < count; index++) {
    const extent = view.at(core.layout.page + index * EXTENT_SIZE);
    if (extent.guestOffset !== at || extent.length === 0)
      throw new SimulationFailure(`a map leaves out what is at ${at}`);
    at += extent.length;
    kinds.push({ end: at, kind: extent.kind as ExtentKind });
  }
  if (count === 0 || at > offset + length) throw new SimulationFailure(`a map from ${offset} on ends at ${at}`);
  const now = model.certainCells(offset, at);
  for (const [cell, value] of cells) {
    // Somebody has changed it, or may have.
    if (now.get(cell) !== value) continue;
    const place = model.cells.offsetOf(cell);
    const kind = kinds.find(({ end }) => place < end)?.kind;
    if (kind === undefined) continue;
    const fits = value > 0 ? HOLDS_DATA.includes(kind) : model.background(cell) === 0 || HIDES.includes(kind);
    if (!fits) throw new SimulationFailure(`a map says kind ${kind} of guest offset ${place}`);
  }
}

const HOLDS_DATA: readonly ExtentKind[] = [ExtentKind.Data, ExtentKind.Compressed];
/** Kinds that do not show what lies behind the image. */
const HIDES: readonly ExtentKind[] = [...HOLDS_DATA, ExtentKind.ZeroPlain, ExtentKind.ZeroAllocated];

/** All of them fit the page. */
function judgeList(count: number, { model }: World, { core }: Engine): void {
  const view = new SnapshotRecordView(core.memory);
  const found: number[] = [];
  let address = core.layout.page;
  for (let index = 0; index < count; index++) {
    view.at(address);
    if (view.idLength !== 1) throw new SimulationFailure(`a listed snapshot has an id of ${view.idLength} bytes`);
    found.push((core.bytes(address + RECORD_SIZE, 1)[0] as number) - ONE_DIGIT);
    address += view.recordLength;
  }
  const expected = [...model.snapshots.keys()].sort();
  if (found.sort().join() !== expected.join()) {
    throw new SimulationFailure(`snapshots ${found.join()} are listed, there are ${expected.join()}`);
  }
}
