/** FAT12, FAT16 and FAT32, with long names. */

import type { FileSystemType, RawEntry, Volume } from '../file-system.js';
import { type BoundedReader, damaged } from '../source.js';
import { type Geometry, readGeometry } from './boot-sector.js';
import { ClusterChains } from './cluster-chains.js';
import { type FatDirectory, type FatFile, parseDirectory } from './directory.js';

/** Bytes of a directory, by the specification. */
const LONGEST_DIRECTORY = 65536 * 32;
/** Of a root that is no chain of clusters. */
const ROOT_ID = -1;

export class FatVolume implements Volume<FatFile> {
  readonly type: FileSystemType;
  label: string;
  readonly size: number;
  readonly remarks: readonly string[] = [];
  readonly ignoresCase = true;
  private readonly chains: ClusterChains;

  private constructor(
    private readonly reader: BoundedReader,
    private readonly geometry: Geometry,
  ) {
    this.type = geometry.type;
    this.label = geometry.label;
    this.size = geometry.size;
    this.chains = new ClusterChains(reader, geometry);
  }

  /** Undefined for what is no FAT file system. */
  static async open(reader: BoundedReader): Promise<FatVolume | undefined> {
    const geometry = await readGeometry(reader);
    if (geometry === undefined) return undefined;
    const volume = new FatVolume(reader, geometry);
    volume.label = (await volume.directory(await volume.root())).label ?? geometry.label;
    return volume;
  }

  async root(): Promise<FatFile> {
    const nothing = { modified: undefined, mode: 0o40755, uid: undefined, gid: undefined };
    const { root } = this.geometry;
    const place =
      'cluster' in root ? { id: root.cluster, firstCluster: root.cluster } : { id: ROOT_ID, firstCluster: 0 };
    return { kind: 'directory', size: 0, ...place, ...nothing };
  }

  async entries(directory: FatFile): Promise<RawEntry<FatFile>[]> {
    const { entries } = await this.directory(directory);
    if (entries.length > this.reader.limits.maxEntries) throw damaged('a directory has too many entries');
    return entries.map(({ name, file }) => ({ name, open: async () => file }));
  }

  async readNode(file: FatFile, offset: number, length: number): Promise<Uint8Array> {
    const target = new Uint8Array(length);
    const { clusterSize } = this.geometry;
    for (let done = 0; done < length; ) {
      const first = Math.floor((offset + done) / clusterSize);
      const within = (offset + done) % clusterSize;
      const wanted = Math.ceil((within + length - done) / clusterSize);
      const { cluster, count } = await this.run(file, first, wanted);
      const piece = Math.min(length - done, count * clusterSize - within);
      target.set(await this.reader.content(this.chains.offsetOf(cluster) + within, piece), done);
      done += piece;
    }
    return target;
  }

  /** Clusters of a file that lie behind each other. */
  private async run(file: FatFile, index: number, wanted: number): Promise<{ cluster: number; count: number }> {
    const cluster = await this.chains.at(file.firstCluster, index);
    if (cluster === undefined) throw damaged('a file ends before its length');
    let count = 1;
    while (count < wanted && (await this.chains.at(file.firstCluster, index + count)) === cluster + count) count++;
    return { cluster, count };
  }

  private async directory(directory: FatFile): Promise<FatDirectory> {
    const { root, clusterSize } = this.geometry;
    if (directory.id === ROOT_ID && 'offset' in root) {
      return parseDirectory(await this.reader.bytes(root.offset, root.length), (at) => root.offset + at);
    }
    const clusters: number[] = [];
    for (;;) {
      const cluster = await this.chains.at(directory.firstCluster, clusters.length);
      if (cluster === undefined) break;
      clusters.push(cluster);
      if (clusters.length * clusterSize > LONGEST_DIRECTORY) throw damaged('a directory is too long');
    }
    const bytes = new Uint8Array(clusters.length * clusterSize);
    for (const [index, cluster] of clusters.entries()) {
      bytes.set(await this.reader.bytes(this.chains.offsetOf(cluster), clusterSize), index * clusterSize);
    }
    const placeOf = (at: number): number =>
      this.chains.offsetOf(clusters[Math.floor(at / clusterSize)] as number) + (at % clusterSize);
    return parseDirectory(bytes, placeOf);
  }
}
