/** Mistakes in the keeping of bitmaps, made on purpose: the simulator notices each of them. */

import { describe, test } from 'vitest';
import type { Emphasis, Scenario } from '../../fuzz/simulator/scenario.js';
import { CATCH_TIMEOUT, expectCaught, type Mistake } from './caught.js';

const hasBitmaps = ({ bitmaps }: Scenario) => bitmaps;
const mayResize = ({ bitmaps, dataFile }: Scenario) => bitmaps && dataFile === 'none';

/** Short lives, slow flushes, and many looks at what a power cut would leave. */
function about(plan: Emphasis['plan']): Emphasis {
  return {
    scenario: { snapshots: 0, snapshotRequests: false, compresses: 0, lives: 2 },
    plan: { imaginedCuts: 0.1, ...plan },
    temper: { flushTime: 40 },
    habits: { writes: 6 },
  };
}

describe('a core that keeps its bitmaps badly is noticed:', () => {
  const mistakes: Record<string, Mistake> = {
    'the mark is not durable before the first change': {
      only: hasBitmaps,
      emphasis: about({ requests: 40, bitmapCalls: 0.1 }),
      file: 'image/bitmap-track.ts',
      find: '    state.marking = true;\n    requestFlush(image.order, task);\n    return Status.Miss;\n',
      replace: '    state.marking = true;\n',
    },
    'changes are not noted': {
      only: hasBitmaps,
      emphasis: about({ requests: 40, bitmapCalls: 0.1 }),
      file: 'scheduler.ts',
      find: ' : noteChanged(image, task);\n',
      replace: ' : Status.Ok;\n',
    },
    'marks are cleared before the bits are durable': {
      only: hasBitmaps,
      emphasis: about({ requests: 40, bitmapCalls: 0.1, ending: 'close' }),
      file: 'image/bitmap-track.ts',
      find: '  if (task.noteIndex === 0) {\n    task.noteIndex = 1;\n    requestFlush(image.order, task);\n    return Status.Miss;\n  }\n',
      replace: '  if (task.noteIndex === 0) task.noteIndex = 1;\n',
    },
    'the new directory is not durable before the header names it': {
      only: hasBitmaps,
      emphasis: about({ requests: 20, bitmapCalls: 0.6 }),
      file: 'control/bitmap-directory.ts',
      find: '      task.stage = BitmapStage.SwitchHeader;\n      requestFlush(image.order, task);\n      return Status.Miss;\n',
      replace: '      task.stage = BitmapStage.SwitchHeader;\n      return Status.Ok;\n',
    },
    'the autoclear bit is set before the extension is durable': {
      only: hasBitmaps,
      emphasis: about({ requests: 20, bitmapCalls: 0.6, imaginedCuts: 0.2 }),
      file: 'control/bitmap-header.ts',
      find: '    case Stage.FlushData:\n      return flushTo(image, task, work, work.extensionThere ? Stage.SetBit : Stage.ReadType);\n',
      replace:
        '    case Stage.FlushData:\n      work.headerStage = work.extensionThere ? Stage.SetBit : Stage.ReadType;\n      return Status.Ok;\n',
    },
    'the old table of a cleared bitmap is freed before the new one counts': {
      only: hasBitmaps,
      emphasis: about({ requests: 40, bitmapCalls: 0.4 }),
      file: 'control/bitmap-change.ts',
      find: '      task.stage = BitmapStage.FreeTable;\n      requestFlush(image.order, task);\n      return Status.Miss;\n',
      replace: '      task.stage = BitmapStage.Done;\n      return Status.Ok;\n',
    },
    'the tables for another size of the disk are not in use before it has that size': {
      only: mayResize,
      emphasis: about({ requests: 40, bitmapCalls: 0.2, resizes: 0.3 }),
      file: 'control/bitmap-resize-copy.ts',
      find: 'entry.flags | BitmapFlag.InUse',
      replace: 'entry.flags',
    },
    'bits behind the end of a shorter disk stay': {
      only: mayResize,
      emphasis: about({ requests: 40, bitmapCalls: 0.2, resizes: 0.3 }),
      file: 'control/bitmap-resize-copy.ts',
      find: '      if (state.cursor === endIndex(image, state)) named = endOffset(image, state);\n',
      replace: '',
    },
    'a bitmap of another size is not noted any more': {
      only: mayResize,
      emphasis: about({ requests: 40, bitmapCalls: 0.2, resizes: 0.3 }),
      file: 'control/bitmap-resize.ts',
      find: '      track(image, entry.hostOffset, entry.tableOffset, entry.granularityBits);\n',
      replace: '',
    },
    'the old tables are not freed when the disk has another size': {
      only: mayResize,
      emphasis: about({ requests: 40, bitmapCalls: 0.2, resizes: 0.3 }),
      file: 'control/bitmap-resize.ts',
      find: '    status = freeTable(image, task, work);\n',
      replace: '',
    },
    'a removed bitmap is still noted': {
      only: hasBitmaps,
      emphasis: about({ requests: 40, bitmapCalls: 0.4 }),
      file: 'control/bitmap-directory.ts',
      find: '  untrack(image, work.entryOffset);\n',
      replace: '',
    },
  };

  for (const [name, mistake] of Object.entries(mistakes)) test(name, () => expectCaught(mistake), CATCH_TIMEOUT);
});
