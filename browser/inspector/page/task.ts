/** Work that takes a while: how far it is, a button that ends it, and what to do when it fails. */

import type { Problem, Progress } from '../protocol.js';
import { CallError, type CallOptions, isCancelled } from './client.js';
import { h } from './dom.js';
import { percentText } from './text.js';

/** Milliseconds before a progress bar shows: what is quick must not flicker. */
const PATIENCE = 250;

/**
 * Runs `work` and puts its element in `host`; until then a bar, afterwards a problem if there was one. Resolves when it is
 * over, never rejects.
 */
export async function runTask(
  host: HTMLElement,
  label: string,
  gone: AbortSignal,
  work: (options: Required<CallOptions>) => Promise<Node | undefined>,
): Promise<void> {
  const controller = new AbortController();
  const signal = AbortSignal.any([gone, controller.signal]);
  const bar = h('progress', { 'aria-label': label });
  const amount = h('span', { class: 'amount' });
  const cancel = h('button', { type: 'button', on: { click: () => controller.abort() } }, 'Cancel');
  const row = h(
    'div',
    { class: 'task', role: 'group', 'aria-label': label },
    h('span', {}, label),
    bar,
    amount,
    cancel,
  );
  const timer = setTimeout(() => host.replaceChildren(row), host.childElementCount === 0 ? PATIENCE : 0);
  const onProgress = ({ done, total }: Progress): void => {
    if (total <= 0) return;
    bar.max = total;
    bar.value = Math.min(done, total);
    amount.textContent = percentText(done, total);
  };
  try {
    const result = await work({ signal, onProgress });
    clearTimeout(timer);
    host.replaceChildren(...(result === undefined ? [] : [result]));
  } catch (error) {
    clearTimeout(timer);
    if (gone.aborted) return;
    const again = h('button', { type: 'button' }, 'Try again');
    again.addEventListener('click', () => {
      host.replaceChildren();
      void runTask(host, label, gone, work);
    });
    if (isCancelled(error)) host.replaceChildren(h('div', { class: 'task' }, `Cancelled: ${label}`, again));
    else host.replaceChildren(problemBox(problemFrom(error)));
  } finally {
    clearTimeout(timer);
  }
}

/** A failure of the worker's, or a mistake of the page's. */
export function problemFrom(error: unknown): Problem {
  if (error instanceof CallError) return error.problem;
  const message = error instanceof Error ? error.message : String(error);
  return { code: 'ERR_INTERNAL', message, advice: undefined };
}

/** What went wrong, and what to do. */
export function problemBox({ message, advice, code }: Problem): HTMLElement {
  return h(
    'div',
    { class: 'problem', role: 'alert' },
    h('p', {}, h('strong', {}, message)),
    advice !== undefined && h('p', {}, advice),
    h('p', { class: 'code' }, code),
  );
}
