/** The disk as a raw file, written piece by piece: the memory it takes does not depend on the disk. */

import type { App, View } from '../app.js';
import { copyOut } from '../copy-out.js';
import { card, definitions, h } from '../dom.js';
import { openSink, sinkKind } from '../sink.js';
import { runTask } from '../task.js';
import { baseOf, exactBytes, visibleText } from '../text.js';

const WHERE = {
  file: 'You choose a file; zeros are left out as holes where its file system can do that.',
  storage: 'It is put together in this browser’s own storage first, then saved like a download.',
  memory: 'It is put together by this browser, then saved like a download.',
} as const;

export function exportView(app: App, gone: AbortSignal): View {
  const { overview, place } = app;
  const { state } = place;
  const snapshot = state === undefined ? undefined : overview.snapshots[state];
  const size = snapshot?.diskSize ?? overview.size;
  const name = `${baseOf(overview.name)}${snapshot === undefined ? '' : `-${snapshot.name.replace(/[^\w.-]/g, '_')}`}.raw`;
  const result = h('div', { 'aria-live': 'polite', class: 'export-result' });
  const start = h('button', { type: 'button', class: 'primary' }, 'Save as raw file');
  start.addEventListener('click', async () => {
    const sink = await openSink(name, size);
    if (sink === undefined) return;
    result.replaceChildren();
    start.disabled = true;
    await runTask(result, `Writing ${name}`, gone, async (options) => {
      const done = await copyOut(app, { state, size, sink }, options);
      return h(
        'p',
        { 'data-exported': done.size },
        `${exactBytes(done.size)} are in ${name}; ${exactBytes(done.written)} of them are not zeros.`,
      );
    });
    start.disabled = false;
  });
  const facts = definitions([
    ['Disk', exactBytes(size)],
    ['State', snapshot === undefined ? 'as it is' : `snapshot ${visibleText(snapshot.name)}`],
    ['File name', name],
  ]);
  if (!overview.readable) return { element: card('Raw copy', h('p', {}, 'The disk cannot be read: see the summary.')) };
  return { element: card('Raw copy', facts, h('p', { class: 'hint' }, WHERE[sinkKind()]), start, result) };
}
