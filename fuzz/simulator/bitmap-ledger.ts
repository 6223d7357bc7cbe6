/**
 * What the bitmaps of an image must say. After a power cut a bitmap is in use, and then says nothing, or it has every
 * change that the guest can see, and none that nobody asked for.
 *
 * A request that failed may have taken place or not: then a name has several possible states, and what a disk holds must
 * fit one of them.
 */

import type { DiskBitmap } from './bitmap-reader.js';
import { SimulationFailure } from './trace.js';

/** From `clock` on the bitmap is enabled, or is not. */
interface Epoch {
  readonly clock: number;
  readonly enabled: boolean;
}

interface State {
  readonly granularity: number;
  /** It can only be removed. */
  readonly inconsistent: boolean;
  readonly epochs: readonly Epoch[];
  /** Bits that must be set, and bits that may be. */
  readonly lower: Set<number>;
  readonly upper: Set<number>;
  mayBeInUse: boolean;
  /** Setting bits of it broke off, or another size: it may stay in use for good. So did disabling it: changes may be noted. */
  brokenOff?: boolean;
}

/** One possibility of a name; undefined: there is no such bitmap. */
type Possibility = State | undefined;

export type BitmapVerb = 'add' | 'remove' | 'enable' | 'disable' | 'clear' | 'merge' | 'set';

export interface BitmapCall {
  readonly verb: BitmapVerb;
  readonly name: string;
  readonly source: string;
  readonly granularity: number;
  /** Bytes of the virtual disk. */
  readonly size: number;
  /** What is set. */
  readonly range: { readonly offset: number; readonly length: number };
}

/** A change of the guest's, in bytes. */
export interface Change {
  readonly offset: number;
  readonly length: number;
  readonly submittedAt: number;
}

/** Calls that leave something behind for good when they break off. */
const LASTING: readonly BitmapVerb[] = ['set', 'disable'];
/** More possibilities than this are not followed. */
const MOST = 4;

export class BitmapLedger {
  private readonly names = new Map<string, Possibility[]>();
  /** When the writes of this life were submitted, by number. */
  private readonly writes = new Map<number, number>();
  private pending: { readonly name: string; readonly mayLast: boolean; readonly after: Possibility[] } | undefined;
  /** Bytes that the disk is going to have. */
  private pendingSize: number | undefined;

  /** There is a bitmap, or may be one. */
  get any(): boolean {
    return this.names.size > 0 || this.pending !== undefined;
  }

  /** No name has so many possibilities that another request about it could not be followed. */
  get clear(): boolean {
    return [...this.names.values()].every((possible) => possible.length < MOST);
  }

  /** The guest is going to change this; `id` is the number of the write, if its bytes have one. */
  submit({ offset, length, submittedAt }: Change, id: number | undefined): void {
    if (id !== undefined) this.writes.set(id, submittedAt);
    for (const state of this.states()) {
      if (!isEnabled(state, Number.POSITIVE_INFINITY) && !state.brokenOff) continue;
      addBits(state.upper, state.granularity, offset, length);
      state.mayBeInUse = true;
    }
  }

  /** The change was answered: whoever looks sees it. */
  answer({ offset, length, submittedAt }: Change): void {
    for (const state of this.states()) {
      if (isEnabled(state, submittedAt)) addBits(state.lower, state.granularity, offset, length);
    }
  }

  /** When write number `id` was submitted; undefined when that was in another life. */
  submissionOf(id: number): number | undefined {
    return this.writes.get(id);
  }

  /** Why a call must fail; undefined when it should succeed, or when nobody can say. */
  refusal({ verb, name, source }: BitmapCall): 'NotFound' | 'Exists' | 'Invalid' | undefined {
    const found = this.only(name);
    const other = this.only(source);
    if (found === null || other === null) return undefined;
    if (verb === 'add') return found === undefined ? undefined : 'Exists';
    if (found === undefined) return 'NotFound';
    if (verb === 'remove') return undefined;
    if (found.inconsistent) return 'Invalid';
    if (verb !== 'merge') return undefined;
    if (other === undefined) return 'NotFound';
    return other.inconsistent ? 'Invalid' : undefined;
  }

  /** Nobody can say what the name, or that of the source, is about. */
  isDoubtful({ name, source }: BitmapCall): boolean {
    return this.only(name) === null || this.only(source) === null;
  }

  /** A call begins. What the guest asks from now on comes after it. */
  begin(call: BitmapCall, clock: number): void {
    const after = this.possibilities(call.name).map((state) => this.afterCall(call, state, clock));
    this.pending = { name: call.name, mayLast: LASTING.includes(call.verb), after };
  }

  /** The call ended: it took place, it did not, or nobody knows. */
  end(took: boolean | undefined): void {
    if (this.pending === undefined) return;
    const { name, mayLast, after } = this.pending;
    this.pending = undefined;
    if (took === false) return;
    if (mayLast && took === undefined) for (const state of after) if (state !== undefined) state.brokenOff = true;
    const possible = took ? after : [...this.possibilities(name), ...after];
    this.names.set(name, possible);
  }

  /** There is a bitmap for certain. */
  get certain(): boolean {
    return [...this.names.values()].some((possible) => possible.every((state) => state !== undefined));
  }

  /** One of them cannot be used for certain, or may be so: then the disk must keep its size, or may. */
  get spoilt(): 'certainly' | 'maybe' | undefined {
    const possible = [...this.names.values()];
    if (possible.some((states) => states.every((state) => state?.inconsistent === true))) return 'certainly';
    const may = possible.some((states) => states.some((state) => state?.inconsistent || state?.brokenOff));
    return may ? 'maybe' : undefined;
  }

  /** The disk is going to have `size` bytes: until then each of them may be in use. */
  beginResize(size: number): void {
    this.pendingSize = size;
    for (const state of this.states()) state.mayBeInUse = true;
  }

  /** As `end`. */
  endResize(took: boolean | undefined): void {
    const size = this.pendingSize as number;
    this.pendingSize = undefined;
    if (took === false) return;
    for (const [name, possible] of this.names) {
      const after = possible.map((state) => cutOff(state, size));
      if (took === undefined)
        for (const state of [...possible, ...after]) if (state !== undefined) state.brokenOff = true;
      this.names.set(name, took ? after : [...possible, ...after]);
    }
  }

  /** The image was closed in order. */
  close(): void {
    for (const state of this.states()) state.mayBeInUse = state.brokenOff === true;
  }

  /** Judges what lies on a disk. `changes` are those that it shows. */
  judge(found: readonly DiskBitmap[], changes: readonly Change[]): void {
    const names = new Set([...this.names.keys(), ...found.map(({ name }) => name)]);
    if (this.pending !== undefined) names.add(this.pending.name);
    for (const name of names) {
      const bitmap = found.find((candidate) => candidate.name === name);
      const possible = [...this.possibilities(name)];
      if (this.pending?.name === name) possible.push(...this.pending.after);
      const size = this.pendingSize;
      if (size !== undefined) possible.push(...possible.map((state) => cutOff(state, size)));
      const reasons = possible.map((state) => mismatch(state, bitmap, changes));
      if (!reasons.includes(undefined)) {
        throw new SimulationFailure(`bitmap ${name.slice(0, 8)}: ${[...new Set(reasons)].join(', or ')}`);
      }
    }
  }

  /** What the disk holds is the truth from now on. */
  decide(found: readonly DiskBitmap[]): void {
    this.names.clear();
    this.writes.clear();
    this.pending = undefined;
    this.pendingSize = undefined;
    for (const { name, granularity, enabled, inUse, bits } of found) {
      const epochs = [{ clock: 0, enabled: enabled && !inUse }];
      const lower = new Set(inUse ? [] : bits);
      const state = { granularity, inconsistent: inUse, epochs, lower, upper: new Set(lower), mayBeInUse: inUse };
      this.names.set(name, [state]);
    }
  }

  private afterCall(
    { verb, granularity, source, size, range }: BitmapCall,
    state: Possibility,
    clock: number,
  ): Possibility {
    if (verb === 'add') {
      if (state !== undefined) return state;
      const epochs = [{ clock, enabled: true }];
      return { granularity, inconsistent: false, epochs, lower: new Set(), upper: new Set(), mayBeInUse: false };
    }
    if (state === undefined || verb === 'remove') return undefined;
    const copy = { ...state, lower: new Set(state.lower), upper: new Set(state.upper) };
    if (state.inconsistent) return copy;
    const { epochs } = state;
    switch (verb) {
      case 'enable':
        return { ...copy, epochs: [...epochs, { clock, enabled: true }] };
      case 'disable':
        return { ...copy, epochs: [...epochs, { clock, enabled: false }] };
      case 'clear': {
        const enabled = isEnabled(state, Number.POSITIVE_INFINITY);
        // What was submitted before has ended before: it is cleared away.
        return { ...copy, epochs: [{ clock, enabled }], lower: new Set(), upper: new Set() };
      }
      case 'set':
        copy.mayBeInUse = true;
        for (const bits of [copy.lower, copy.upper]) addBits(bits, copy.granularity, range.offset, range.length);
        return copy;
      default:
        this.merge(copy, source, size);
        return copy;
    }
  }

  private merge(target: State, source: string, size: number): void {
    const sources = this.possibilities(source);
    for (const state of sources) {
      if (state === undefined) continue;
      const add = (from: Set<number>, to: Set<number>) => {
        for (const bit of from) {
          const offset = bit * state.granularity;
          addBits(to, target.granularity, offset, Math.min(state.granularity, size - offset));
        }
      };
      add(state.upper, target.upper);
      if (sources.length === 1) add(state.lower, target.lower);
    }
  }

  private possibilities(name: string): Possibility[] {
    return this.names.get(name) ?? [undefined];
  }

  /** The only possibility; null when there are several. */
  private only(name: string): Possibility | null {
    const possible = this.possibilities(name);
    return possible.length === 1 ? possible[0] : null;
  }

  private *states(): Iterable<State> {
    for (const possible of this.names.values()) for (const state of possible) if (state !== undefined) yield state;
    for (const state of this.pending?.after ?? []) if (state !== undefined) yield state;
  }
}

/** Why the disk cannot be in this state; undefined when it can. */
function mismatch(state: Possibility, found: DiskBitmap | undefined, changes: readonly Change[]): string | undefined {
  if (state === undefined) return found === undefined ? undefined : 'it should not be there';
  if (found === undefined) return 'it is gone';
  if (found.granularity !== state.granularity) return `its granularity is ${found.granularity}`;
  if (state.inconsistent) return found.inUse ? undefined : 'it is not in use any more';
  if (found.enabled !== isEnabled(state, Number.POSITIVE_INFINITY)) return `it is ${found.enabled ? 'on' : 'off'}`;
  if (found.inUse) return state.mayBeInUse ? undefined : 'it is in use';
  for (const bit of state.lower) if (!found.bits.has(bit)) return `bit ${bit} is missing`;
  for (const bit of found.bits) if (!state.upper.has(bit)) return `bit ${bit} is set`;
  for (const { offset, length, submittedAt } of changes) {
    if (!isEnabled(state, submittedAt)) continue;
    for (const bit of bitsOf(state.granularity, offset, length)) {
      if (!found.bits.has(bit)) return `bit ${bit} is missing for what lies at ${offset}`;
    }
  }
  return undefined;
}

/** What is left of a bitmap on a disk of `size` bytes. */
function cutOff(state: Possibility, size: number): Possibility {
  if (state === undefined) return undefined;
  const { granularity } = state;
  const within = (bits: Set<number>) => new Set([...bits].filter((bit) => bit * granularity < size));
  return { ...state, lower: within(state.lower), upper: within(state.upper) };
}

/** Whether a change that was submitted then is noted. */
function isEnabled({ epochs }: State, submittedAt: number): boolean {
  return epochs.findLast(({ clock }) => clock <= submittedAt)?.enabled ?? false;
}

function addBits(bits: Set<number>, granularity: number, offset: number, length: number): void {
  for (const bit of bitsOf(granularity, offset, length)) bits.add(bit);
}

function* bitsOf(granularity: number, offset: number, length: number): Iterable<number> {
  for (let bit = Math.floor(offset / granularity); bit * granularity < offset + length; bit++) yield bit;
}
