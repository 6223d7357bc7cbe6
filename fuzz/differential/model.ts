/** What a guest must find: the disk's bytes, and those of each snapshot, kept the plain way. */

import type { GuestStep, Plan, Step } from './plan.js';

export class Model {
  bytes: Uint8Array;
  readonly snapshots = new Map<string, Uint8Array>();

  constructor(
    private readonly plan: Plan,
    contents: Uint8Array,
  ) {
    this.bytes = contents;
  }

  /**
   * The step as it can be carried out now: a range is cut to the disk, and what is impossible (a name that is taken, a
   * snapshot that is not there) is left out.
   */
  possible(step: Step): Step | undefined {
    switch (step.kind) {
      case 'flush':
      case 'reopen':
        return step;
      case 'resize':
        return this.possibleResize(step.size);
      case 'snapshot':
        return this.snapshots.has(step.name) ? undefined : step;
      case 'apply':
      case 'delete':
        return this.snapshots.has(step.name) ? step : undefined;
      case 'compressed':
        return step.offset + step.length <= this.bytes.length && this.canDiscard() ? step : undefined;
      default: {
        const length = Math.min(step.length, this.bytes.length - step.offset);
        return length > 0 ? { ...step, length } : undefined;
      }
    }
  }

  /** Carries out a step that is possible. */
  apply(step: Step): void {
    switch (step.kind) {
      case 'flush':
      case 'reopen':
        return;
      case 'resize': {
        const bytes = new Uint8Array(step.size);
        bytes.set(this.bytes.subarray(0, step.size));
        this.bytes = bytes;
        return;
      }
      case 'snapshot':
        this.snapshots.set(step.name, this.bytes.slice());
        return;
      case 'apply':
        this.bytes = (this.snapshots.get(step.name) as Uint8Array).slice();
        return;
      case 'delete':
        this.snapshots.delete(step.name);
        return;
      case 'discard':
        this.discard(step);
        return;
      default:
        this.bytes.fill('value' in step ? step.value : 0, step.offset, step.offset + step.length);
    }
  }

  /** Version 2 cannot say that a backing file is hidden. */
  private canDiscard(): boolean {
    const { compat, backing } = this.plan.image;
    return compat === '1.1' || backing === undefined;
  }

  /** Whole clusters only, the last one of the disk included. */
  private discard({ offset, length }: GuestStep): void {
    if (!this.canDiscard()) return;
    const { clusterSize } = this.plan.image;
    const start = Math.ceil(offset / clusterSize) * clusterSize;
    const last = offset + length === this.bytes.length;
    const end = last ? this.bytes.length : Math.floor((offset + length) / clusterSize) * clusterSize;
    if (start < end) this.bytes.fill(0, start, end);
  }

  /** Version 2 does not note the size that a disk had. A shrunk disk ends with a cluster: what is left of one comes back. */
  private possibleResize(wanted: number): Step | undefined {
    const { clusterSize, compat } = this.plan.image;
    const shrinks = wanted < this.bytes.length;
    const size = shrinks ? Math.ceil(wanted / clusterSize) * clusterSize : wanted;
    const possible = size !== this.bytes.length && (compat === '1.1' || this.snapshots.size === 0);
    return possible ? { kind: 'resize', size: Math.min(size, Math.max(this.bytes.length, wanted)) } : undefined;
  }
}
