/**
 * Layers that several images have behind them, opened once: hundreds of overlays over one base have one file, one engine and
 * one cache of tables for it.
 */
import type { Layer } from './layer.js';

interface Entry {
  readonly layer: Promise<Layer>;
  users: number;
}

/**
 * Give one pool to all images that are opened under the same rules: with the same core and codec, and through gates that
 * open the same files, as whoever comes later gets what the first one has opened. A layer is closed with its last image.
 */
export class LayerPool {
  private readonly entries = new Map<string, Entry>();

  /** Layers that are open. */
  get size(): number {
    return this.entries.size;
  }

  /**
   * The layer of this key, opened unless it is there. What comes back is the caller's to close. Rejects as `open` does, for
   * all who have asked meanwhile.
   */
  async share(key: string, open: () => Promise<Layer>): Promise<Layer> {
    let entry = this.entries.get(key);
    if (entry === undefined) {
      entry = { layer: open(), users: 0 };
      this.entries.set(key, entry);
    }
    entry.users += 1;
    try {
      return new SharedLayer(await entry.layer, this.leaver(key, entry));
    } catch (error) {
      this.forget(key, entry);
      throw error;
    }
  }

  private leaver(key: string, entry: Entry): () => Promise<void> {
    return async () => {
      entry.users -= 1;
      if (entry.users > 0) return;
      // Whoever comes from now on opens it anew.
      this.forget(key, entry);
      await (await entry.layer).close();
    };
  }

  private forget(key: string, entry: Entry): void {
    if (this.entries.get(key) === entry) this.entries.delete(key);
  }
}

/** A pool for each set of rules under which images are opened. */
export class LayerPools {
  private readonly pools = new Map<string, LayerPool>();

  /** @param rules whatever the layers depend on, as JSON has it */
  under(...rules: unknown[]): LayerPool {
    const key = JSON.stringify(rules);
    const pool = this.pools.get(key) ?? new LayerPool();
    this.pools.set(key, pool);
    return pool;
  }
}

/** One image's part in a layer. */
class SharedLayer implements Layer {
  readonly format: Layer['format'];
  readonly length: number;
  readonly location: string | undefined;
  readonly identity: string | undefined;
  readonly backing: Layer | undefined;
  readonly file: Layer['file'];
  private closing: Promise<void> | undefined;

  constructor(
    private readonly layer: Layer,
    private readonly leave: () => Promise<void>,
  ) {
    const { format, length, location, identity, backing, file } = layer;
    this.format = format;
    this.length = length;
    this.location = location;
    this.identity = identity;
    this.backing = backing;
    this.file = file;
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    return this.layer.read(offset, target);
  }

  map(options: Parameters<Layer['map']>[0]): ReturnType<Layer['map']> {
    return this.layer.map(options);
  }

  close(): Promise<void> {
    this.closing ??= this.leave();
    return this.closing;
  }
}
