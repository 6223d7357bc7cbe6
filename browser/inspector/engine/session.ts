/** Everything that is open for one page: the files, the image, the states that were asked for, and what is known of them. */

import type { BitmapFacts } from '../../../host/bitmaps.js';
import type { BlockFile } from '../../../host/block-file.js';
import { CorralError } from '../../../host/errors.js';
import type { OpenGate } from '../../../host/open-gate.js';
import type { Snapshot } from '../../../host/snapshot-record.js';
import type { Overview, Problem, State } from '../protocol.js';
import type { GuestDisk } from './disk.js';
import { ExtentIndex } from './extent-index.js';
import { HostLayout, type LayoutWatch } from './host-layout.js';
import { baseName, gateOf, type NamedFile, type Opened, openSnapshot, openTop } from './opened.js';
import { problemOf } from './problem.js';
import { readTablesAhead } from './table-ahead.js';
import { tracesOf } from './traces.js';

/** A disk, and what is known of its pieces. */
export interface View {
  readonly disk: GuestDisk;
  readonly index: ExtentIndex;
}

export interface OpenChoice {
  /** Which of the files is looked at; default: the one that no other names. */
  readonly top?: number | undefined;
  /** What was not as it should be when the files were opened. */
  readonly warnings?: readonly string[];
  /** What opens the files that the image names; default: only those that are given. */
  readonly gate?: OpenGate;
}

/** Snapshots that are open at once: each has an engine of its own. */
const MOST_STATES = 4;

export class Session {
  private readonly views = new Map<State, Promise<View>>();
  private layoutWork: Promise<HostLayout> | undefined;

  private constructor(
    readonly core: WebAssembly.Module,
    private readonly gate: OpenGate,
    private readonly opened: Opened,
    private readonly snapshots: readonly Snapshot[],
    readonly bitmaps: readonly BitmapFacts[],
    readonly overview: Overview,
  ) {}

  static async open(core: WebAssembly.Module, files: readonly NamedFile[], options: OpenChoice = {}): Promise<Session> {
    const gate = options.gate ?? gateOf(files);
    const number = options.top ?? (await topOf(core, files));
    const chosen = files[number];
    if (chosen === undefined) throw new CorralError('ERR_INVALID_ARGUMENT', { reason: 'There is no file to open' });
    const file = chosen.open();
    const opened = await openTop(file, chosen.name, core, gate);
    const { image, facts } = opened;
    const problems = [...(options.warnings ?? []).map(warningOf), ...opened.problems];
    const noted = async <T>(list: Promise<T[]> | undefined): Promise<T[]> => {
      try {
        return (await list) ?? [];
      } catch (error) {
        problems.push(problemOf(error));
        return [];
      }
    };
    const snapshots = await noted(image?.snapshots.list());
    const bitmaps = await noted(facts?.hasBitmaps ? image?.bitmaps.list() : undefined);
    const overview: Overview = {
      name: chosen.name,
      fileLength: opened.fileLength,
      format: opened.format,
      facts,
      size: opened.disk?.size ?? facts?.virtualSize ?? 0,
      readable: opened.disk !== undefined,
      problems,
      chain: opened.chain,
      files: files.map(({ name }) => name),
      top: number,
      snapshots: snapshots.map(({ id, name, date, diskSize, vmStateSize }) => ({
        ...{ id, name, date, diskSize, vmStateSize },
      })),
      bitmaps,
      traces: facts === undefined ? [] : await tracesOf(file, facts, snapshots),
    };
    return new Session(core, gate, opened, snapshots, bitmaps, overview);
  }

  get file(): BlockFile {
    return this.opened.file;
  }

  get image(): NonNullable<Opened['image']> {
    const { image } = this.opened;
    if (image === undefined)
      throw new CorralError('ERR_UNSUPPORTED', { reason: 'There is no qcow2 image to look into' });
    return image;
  }

  /** A state of the disk. Snapshots are opened when they are asked for, and given up when others are. */
  view(state: State): Promise<View> {
    const known = this.views.get(state);
    if (known !== undefined) return known;
    const view = this.openState(state).then((disk) => ({ disk, index: new ExtentIndex(disk) }));
    this.views.set(state, view);
    view.catch(() => this.views.delete(state));
    for (const old of this.views.keys()) {
      if (this.views.size <= MOST_STATES) break;
      if (old !== undefined && old !== state) this.views.delete(old);
    }
    return view;
  }

  /** What the clusters of the file are; found out once. */
  async layout(watch: LayoutWatch & { onLayout?: (layout: HostLayout) => void }): Promise<HostLayout> {
    this.layoutWork ??= this.walkLayout(watch);
    try {
      return await this.layoutWork;
    } catch (error) {
      this.layoutWork = undefined;
      throw error;
    }
  }

  private async walkLayout(watch: LayoutWatch & { onLayout?: (layout: HostLayout) => void }): Promise<HostLayout> {
    const { facts } = this.opened;
    if (facts === undefined) throw new CorralError('ERR_UNSUPPORTED', { reason: 'Only qcow2 files have structures' });
    const layout = new HostLayout(this.file, facts);
    watch.onLayout?.(layout);
    await layout.walk(watch);
    return layout;
  }

  private async openState(state: State): Promise<GuestDisk> {
    const { disk } = this.opened;
    if (disk === undefined) {
      const [problem] = this.overview.problems;
      throw new CorralError('ERR_UNSUPPORTED', { reason: problem?.message ?? 'The disk cannot be read' });
    }
    if (state === undefined) {
      if (this.opened.facts !== undefined) readTablesAhead(this.file, this.opened.facts);
      return disk;
    }
    const snapshot = this.snapshots[state];
    if (snapshot === undefined) throw new CorralError('ERR_NOT_FOUND', { reason: `There is no snapshot ${state}` });
    return openSnapshot(this.file, this.core, this.gate, { id: snapshot.idBytes, name: snapshot.nameBytes });
  }
}

function warningOf(message: string): Problem {
  return { code: 'WARNING', message, advice: undefined };
}

/** The first file that no other one names as what lies behind it; rather one that names a file itself. */
async function topOf(core: WebAssembly.Module, files: readonly NamedFile[]): Promise<number> {
  if (files.length === 1) return 0;
  const named = new Set<string>();
  const naming = new Set<NamedFile>();
  for (const file of files) {
    const opened = await openTop(file.open(), file.name, core, gateOf([]));
    for (const name of [opened.facts?.backingFile, opened.facts?.dataFile]) {
      if (name === undefined) continue;
      named.add(baseName(name));
      naming.add(file);
    }
  }
  const isFree = ({ name }: NamedFile): boolean => !named.has(baseName(name));
  const top = files.findIndex((file) => naming.has(file) && isFree(file));
  return Math.max(0, top === -1 ? files.findIndex(isFree) : top);
}
