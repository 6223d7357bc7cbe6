/** Mistakes in the keeping of bitmaps, made on purpose: the simulator notices each of them. */

import { describe, expect, test } from 'vitest';
import { simulate } from '../../fuzz/simulator/simulation.js';
import { compileMutated, type Mutation } from './mutated-core.js';

const SEEDS = 800;
/** Compiling a core and running all those seeds, on a machine that does other things too. */
const TIMEOUT = 240_000;

describe('a core that keeps its bitmaps badly is noticed:', () => {
  const mutations: Record<string, Mutation> = {
    'the mark is not durable before the first change': {
      file: 'image/bitmap-track.ts',
      find: '    state.marking = true;\n    requestFlush(image.order, task);\n    return Status.Miss;\n',
      replace: '    state.marking = true;\n',
    },
    'changes are not noted': {
      file: 'scheduler.ts',
      find: '  const status = noteChanged(image, task);\n',
      replace: '  const status = Status.Ok;\n',
    },
    'marks are cleared before the bits are durable': {
      file: 'image/bitmap-track.ts',
      find: '  if (task.noteIndex === 0) {\n    task.noteIndex = 1;\n    requestFlush(image.order, task);\n    return Status.Miss;\n  }\n',
      replace: '  if (task.noteIndex === 0) task.noteIndex = 1;\n',
    },
    'the new directory is not durable before the header names it': {
      file: 'control/bitmap-directory.ts',
      find: '      task.stage = BitmapStage.SwitchHeader;\n      requestFlush(image.order, task);\n      return Status.Miss;\n',
      replace: '      task.stage = BitmapStage.SwitchHeader;\n      return Status.Ok;\n',
    },
    'the autoclear bit is set before the extension is durable': {
      file: 'control/bitmap-header.ts',
      find: '    case Stage.FlushData:\n      return flushTo(image, task, work, work.extensionThere ? Stage.SetBit : Stage.ReadType);\n',
      replace:
        '    case Stage.FlushData:\n      work.headerStage = work.extensionThere ? Stage.SetBit : Stage.ReadType;\n      return Status.Ok;\n',
    },
    'the old table of a cleared bitmap is freed before the new one counts': {
      file: 'control/bitmap-change.ts',
      find: '      task.stage = BitmapStage.FreeTable;\n      requestFlush(image.order, task);\n      return Status.Miss;\n',
      replace: '      task.stage = BitmapStage.Done;\n      return Status.Ok;\n',
    },
    'the tables for another size of the disk are not in use before it has that size': {
      file: 'control/bitmap-resize-copy.ts',
      find: 'entry.flags | BitmapFlag.InUse',
      replace: 'entry.flags',
    },
    'bits behind the end of a shorter disk stay': {
      file: 'control/bitmap-resize-copy.ts',
      find: '      if (state.cursor === endIndex(image, state)) named = endOffset(image, state);\n',
      replace: '',
    },
    'a bitmap of another size is not noted any more': {
      file: 'control/bitmap-resize.ts',
      find: '      track(image, entry.hostOffset, entry.tableOffset, entry.granularityBits);\n',
      replace: '',
    },
    'the old tables are not freed when the disk has another size': {
      file: 'control/bitmap-resize.ts',
      find: '    status = freeTable(image, task, work);\n',
      replace: '',
    },
    'a removed bitmap is still noted': {
      file: 'control/bitmap-directory.ts',
      find: '  untrack(image, work.entryOffset);\n',
      replace: '',
    },
  };

  for (const [name, mutation] of Object.entries(mutations)) {
    test(
      name,
      async () => {
        const module = await compileMutated(mutation);

        let failure: string | undefined;
        for (let seed = 1; seed <= SEEDS && failure === undefined; seed++) failure = simulate(seed, { module }).failure;

        expect(failure).toBeDefined();
      },
      TIMEOUT,
    );
  }
});
