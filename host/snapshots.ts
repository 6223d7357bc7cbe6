/** The internal snapshots of an open image. */

import { RequestKind } from './abi.js';
import type { Engine, EngineRequest } from './engine.js';
import { CorralError } from './errors.js';
import {
  type NewSnapshot,
  readSnapshots,
  type Snapshot,
  type SnapshotSelection,
  writeSelection,
  writeSnapshotOptions,
} from './snapshot-record.js';

interface CallOptions {
  signal?: AbortSignal;
  /** How far it is, several times a second. */
  onProgress?: (done: number, total: number) => void;
}

/** What the snapshots need of their image. */
export interface SnapshotHost {
  readonly engine: Engine;
  /** Runs requests that use the page one at a time; refuses when the image is closed. */
  control<T>(work: () => Promise<T>): Promise<T>;
  /** The virtual disk has another size now. */
  resized(size: number): void;
}

export class Snapshots {
  constructor(private readonly host: SnapshotHost) {}

  /** All snapshots in the order of the table. */
  list(options: { signal?: AbortSignal } = {}): Promise<Snapshot[]> {
    return this.host.control(async () => {
      const snapshots: Snapshot[] = [];
      while (true) {
        const more = await this.host.engine.run({
          kind: RequestKind.SnapshotList,
          guestOffset: snapshots.length,
          signal: options.signal,
          collect: readSnapshots,
        });
        if (more.length === 0) return snapshots;
        snapshots.push(...more);
      }
    });
  }

  /**
   * Makes a snapshot of the disk as it is. Requests that were made before are in it, later ones wait until it is done.
   * Without an id it gets the next free number. Rejects with ERR_TOO_LARGE when a refcount would not fit its width or a
   * limit of the format is reached; nothing has changed then.
   */
  async create(snapshot: NewSnapshot, options: CallOptions = {}): Promise<void> {
    const prepare = writeSnapshotOptions;
    await this.run(RequestKind.SnapshotCreate, { prepare: (core) => prepare(core, snapshot) }, options);
  }

  /** Deletes a snapshot. Rejects with ERR_NOT_FOUND. */
  async delete(snapshot: string | SnapshotSelection, options: CallOptions = {}): Promise<void> {
    const found = await this.find(snapshot, options);
    await this.run(RequestKind.SnapshotDelete, { prepare: (core) => writeSelection(core, found) }, options);
  }

  /** The disk becomes what the snapshot holds, its size too; the snapshot stays. Rejects with ERR_NOT_FOUND. */
  async apply(snapshot: string | SnapshotSelection, options: CallOptions = {}): Promise<void> {
    const found = await this.find(snapshot, options);
    const size = await this.run(
      RequestKind.SnapshotApply,
      { prepare: (core) => writeSelection(core, found), collect: (_core, record) => record.result },
      options,
    );
    this.host.resized(size);
  }

  /** A text is an id, or a name when no snapshot has that id, as QEMU takes it. */
  private async find(snapshot: string | SnapshotSelection, { signal }: CallOptions): Promise<SnapshotSelection> {
    if (typeof snapshot !== 'string') return snapshot;
    const snapshots = await this.list({ signal });
    const found = snapshots.find(({ id }) => id === snapshot) ?? snapshots.find(({ name }) => name === snapshot);
    if (found === undefined) throw new CorralError('ERR_NOT_FOUND', { reason: `Snapshot '${snapshot}' not found` });
    return { id: found.idBytes, name: found.nameBytes };
  }

  private run<T>(
    kind: RequestKind,
    request: Pick<EngineRequest<T>, 'prepare' | 'collect'>,
    { signal, onProgress }: CallOptions,
  ): Promise<T> {
    const { engine } = this.host;
    return this.host.control(async () => {
      const report = (): void => {
        const { core } = engine;
        for (let slot = 0; slot < core.layout.requestCapacity; slot++) {
          const record = core.request(slot);
          if (record.kind === kind) onProgress?.(record.progress, record.progressTotal);
        }
      };
      const timer = onProgress === undefined ? undefined : setInterval(report, 100);
      try {
        return await engine.run({ kind, signal, ...request });
      } finally {
        clearInterval(timer);
      }
    });
  }
}
