/** The file allocation table: which cluster follows which. A chain that comes back to itself is noticed by its length. */

import { viewOf } from '../reader.js';
import { type BoundedReader, damaged } from '../source.js';
import type { Geometry } from './boot-sector.js';

/** Bytes of the table that are held at once: a multiple of every entry's size. */
const WINDOW = 49152;
/** Files whose place in their chain is remembered. */
const REMEMBERED = 64;

interface Place {
  readonly index: number;
  readonly cluster: number;
}

export class ClusterChains {
  private window: { readonly offset: number; readonly view: DataView } | undefined;
  /** By first cluster: how far the last walk came, so that reading on does not begin anew. */
  private readonly places = new Map<number, Place>();

  constructor(
    private readonly reader: BoundedReader,
    private readonly geometry: Geometry,
  ) {}

  /** The cluster at this place of a chain; undefined behind its end. Rejects when the chain leads nowhere. */
  async at(first: number, index: number): Promise<number | undefined> {
    const { clusterCount } = this.geometry;
    if (index > clusterCount) throw damaged('a chain of clusters comes back to itself');
    const known = this.places.get(first);
    let place: Place = known !== undefined && known.index <= index ? known : { index: 0, cluster: this.checked(first) };
    while (place.index < index) {
      const next = await this.next(place.cluster);
      if (next === undefined) return undefined;
      place = { index: place.index + 1, cluster: next };
    }
    this.places.delete(first);
    this.places.set(first, place);
    const [oldest] = this.places.keys();
    if (this.places.size > REMEMBERED && oldest !== undefined) this.places.delete(oldest);
    return place.cluster;
  }

  /** Byte of the file system at which a cluster begins. */
  offsetOf(cluster: number): number {
    const { dataOffset, clusterSize } = this.geometry;
    return dataOffset + (cluster - 2) * clusterSize;
  }

  private checked(cluster: number): number {
    if (cluster < 2 || cluster >= this.geometry.clusterCount + 2) throw damaged(`there is no cluster ${cluster}`);
    return cluster;
  }

  /** Undefined at the end of the chain. */
  private async next(cluster: number): Promise<number | undefined> {
    const { bits } = this.geometry;
    const entry = await this.entry(cluster);
    const end = bits === 32 ? 0x0ffffff8 : bits === 16 ? 0xfff8 : 0xff8;
    return entry >= end ? undefined : this.checked(entry);
  }

  private async entry(cluster: number): Promise<number> {
    const { bits } = this.geometry;
    const offset = Math.floor((cluster * bits) / 8);
    // An entry of 12 bits may begin in the last byte of a window.
    let { window } = this;
    const isHeld =
      window !== undefined && offset >= window.offset && offset + 4 <= window.offset + window.view.byteLength;
    if (window === undefined || !isHeld) window = await this.load(offset);
    const at = offset - window.offset;
    if (bits === 32) return window.view.getUint32(at, true) & 0x0fffffff;
    const pair = window.view.getUint16(at, true);
    if (bits === 16) return pair;
    return cluster % 2 === 0 ? pair & 0xfff : pair >> 4;
  }

  private async load(offset: number): Promise<{ readonly offset: number; readonly view: DataView }> {
    const { tableOffset, tableLength } = this.geometry;
    const bytes = new Uint8Array(WINDOW);
    bytes.set(await this.reader.bytes(tableOffset + offset, Math.min(WINDOW, tableLength - offset)));
    this.window = { offset, view: viewOf(bytes) };
    return this.window;
  }
}
