/** `corral snapshot`: lists, makes, applies and deletes internal snapshots. */

import { CorralError } from '../../errors.js';
import { snapshotFromJson } from '../../node/control-protocol.js';
import type { Snapshot } from '../../snapshot-record.js';
import type { Snapshots } from '../../snapshots.js';
import { Closers } from '../closers.js';
import { IMAGE, NO_BACKING } from '../common-options.js';
import { openDisk } from '../disk.js';
import { askLive, type Live, liveDevice } from '../live.js';
import { flag, text } from '../option-table.js';
import { CommandError, reasonIn, type Terminal, UsageError } from '../output.js';
import { snapshotTable } from '../snapshot-text.js';
import { defineVerb, oneOperand } from '../verb.js';

interface Options {
  format: string | undefined;
  imageOpts: boolean;
  list: boolean;
  apply: string | undefined;
  create: string | undefined;
  delete: string | undefined;
  forceShare: boolean;
}

export const snapshot = defineVerb({
  about: 'Lists the internal snapshots of an image, or makes, applies or deletes one.',
  operands: 'FILE',
  options: {
    list: flag('-l, --list', 'list all snapshots (the default)'),
    create: text('-c, --create NAME', 'make a snapshot of the disk as it is'),
    apply: text('-a, --apply SNAPSHOT', 'the disk becomes what the snapshot of this id or name holds'),
    delete: text('-d, --delete NAME', 'delete the first snapshot of this name'),
    ...IMAGE,
    ...NO_BACKING,
    quiet: flag('-q, --quiet', 'print nothing but the list'),
    forceShare: flag('-U, --force-share', 'with -l: also when another process writes to the image'),
  },
  run({ values, operands, given }, { terminal }) {
    const actions = given.filter(({ name }) => ['list', 'apply', 'create', 'delete'].includes(name));
    if (actions.length > 1) throw new UsageError("Cannot mix '-l', '-a', '-c', '-d'");
    return run(oneOperand(operands), values, terminal);
  },
});

async function run(path: string, options: Options, terminal: Terminal): Promise<void> {
  const { apply, create, forceShare } = options;
  const write = apply !== undefined || create !== undefined || options.delete !== undefined;
  if (write && forceShare) {
    throw new CommandError(`Could not open '${path}': force-share=on can only be used with read-only images`);
  }
  const live = liveDevice(path, options.format);
  if (live !== undefined) return runLive(live, options, terminal);
  await using opened = new Closers();
  const { image } = opened.add(await openDisk(path, { ...options, write, tablesOnly: !write, terminal }));
  if (image === undefined) {
    if (!write) return;
    const [verb, name] =
      create !== undefined
        ? (['create', create] as const)
        : apply !== undefined
          ? (['apply', apply] as const)
          : (['delete', options.delete] as const);
    const reasons = { create: 'Operation not supported', apply: 'Block driver does not support snapshots' };
    const reason = verb === 'delete' ? 'snapshot not found' : reasons[verb];
    throw new CommandError(`Could not ${verb} snapshot '${name}': ${reason}`);
  }
  const { snapshots } = image;
  if (create !== undefined)
    await attempt(path, ['create', create], () => snapshots.create({ name: create, icount: 0n }));
  else if (apply !== undefined) await attempt(path, ['apply', apply], () => applyOne(snapshots, apply));
  else if (options.delete !== undefined) await remove(path, snapshots, options.delete);
  else terminal.print(snapshotTable(await snapshots.list()));
  await image.close();
}

/** On what is served: its guest goes on, and so no other disk can take the place of this one. */
async function runLive(live: Live, options: Options, terminal: Terminal): Promise<void> {
  const { apply, create } = options;
  const list = async (): Promise<Snapshot[]> => {
    const found = await askLive(live, { verb: 'snapshot-list' }, `Could not ask '${live.name}'`);
    return (found as Record<string, unknown>[]).map(snapshotFromJson);
  };
  if (apply !== undefined) {
    throw new CommandError(`Could not apply snapshot '${apply}': The disk is served: detach it first`);
  }
  if (create !== undefined) {
    await askLive(live, { verb: 'snapshot-create', name: create }, `Could not create snapshot '${create}'`);
  } else if (options.delete !== undefined) {
    const about = `Could not delete snapshot '${options.delete}'`;
    const found = (await list()).find(({ name }) => name === options.delete);
    if (found === undefined) throw new CommandError(`${about}: snapshot not found`);
    await askLive(live, { verb: 'snapshot-delete', id: found.id, name: found.name }, about);
  } else {
    terminal.print(snapshotTable(await list()));
  }
}

async function applyOne(snapshots: Snapshots, wanted: string): Promise<void> {
  try {
    await snapshots.apply(wanted);
  } catch (error) {
    if (!(error instanceof CorralError) || error.code !== 'ERR_NOT_FOUND') throw error;
    throw new CommandError('Failed to load snapshot: No such file or directory', 1, { cause: error });
  }
}

/** By its name only, as QEMU does. */
async function remove(path: string, snapshots: Snapshots, wanted: string): Promise<void> {
  await attempt(path, ['delete', wanted], async () => {
    const found = (await snapshots.list()).find(({ name }) => name === wanted);
    if (found === undefined) throw new CommandError('snapshot not found');
    await snapshots.delete({ id: found.idBytes, name: found.nameBytes });
  });
}

async function attempt(
  path: string,
  [verb, name]: readonly [verb: string, name: string],
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof CorralError) && !(error instanceof CommandError)) throw error;
    throw new CommandError(`Could not ${verb} snapshot '${name}': ${reasonIn(path, error)}`, 1, { cause: error });
  }
}
