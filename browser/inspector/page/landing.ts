/** Before anything is open: a place to drop files, a button, and what happens to them. */

import type { Problem, Source } from '../protocol.js';
import { h } from './dom.js';
import { problemBox } from './task.js';

export interface Landing {
  readonly element: HTMLElement;
  /** Says why opening failed. */
  fail(problem: Problem): void;
  /** Says that it is under way. */
  busy(text: string): void;
}

export function landing(mode: 'files' | 'url', open: (source: Source) => void): Landing {
  const message = h('div', { class: 'landing-message', 'aria-live': 'polite' });
  const form = mode === 'files' ? fileForm(open) : urlForm(open);
  const deep =
    location.hash.length > 1 &&
    h('p', { class: 'hint' }, 'The address leads to a place in an image: open that image, and it is shown.');
  const element = h(
    'main',
    { class: 'landing', id: 'content' },
    h('h1', {}, 'What is in this disk image?'),
    h(
      'p',
      { class: 'lead' },
      'A verdict on QCOW2 images, a map of their clusters, their snapshots, their files, their bytes.',
    ),
    form,
    deep,
    message,
    mode === 'files' ? privacy() : urlNotice(),
  );
  return {
    element,
    fail: (problem) => message.replaceChildren(problemBox(problem)),
    busy: (text) => message.replaceChildren(h('p', { class: 'hint' }, text)),
  };
}

function fileForm(open: (source: Source) => void): HTMLElement {
  const input = h('input', { type: 'file', multiple: true, id: 'files', class: 'sr-only' });
  input.addEventListener('change', () => {
    const files = [...(input.files ?? [])];
    if (files.length > 0) open({ kind: 'files', files });
  });
  const label = h('label', { for: 'files', class: 'choose' }, 'Choose files');
  return h(
    'div',
    { class: 'drop' },
    h('p', { class: 'drop-title' }, 'Drop an image here'),
    h('p', { class: 'hint' }, 'or'),
    input,
    label,
    h('p', { class: 'hint' }, 'An image with backing files: all of them at once.'),
  );
}

function urlForm(open: (source: Source) => void): HTMLElement {
  const input = h('input', { type: 'url', id: 'url', required: true, placeholder: 'https://', spellcheck: 'false' });
  const form = h(
    'form',
    { class: 'drop' },
    h('label', { for: 'url', class: 'drop-title' }, 'Address of an image'),
    input,
    h('button', { type: 'submit', class: 'primary' }, 'Open'),
    h('p', { class: 'hint' }, 'Its server must allow ranges, and pages of other origins (CORS).'),
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    open({ kind: 'url', url: input.value });
  });
  return form;
}

function privacy(): HTMLElement {
  return h(
    'p',
    { class: 'privacy' },
    h('strong', {}, 'Nothing leaves this machine. '),
    'The image is read here, by an engine in a sandbox; this page is not allowed to connect to anything. ',
    h('a', { href: 'url.html' }, 'An image behind an address'),
    ' has a page of its own.',
  );
}

function urlNotice(): HTMLElement {
  return h(
    'p',
    { class: 'privacy' },
    'This page connects to the server that you name, and to no other. ',
    h('a', { href: 'index.html' }, 'Files of this machine'),
    ' have a page of their own, which connects to nothing.',
  );
}

/** Files that are dropped anywhere on the page. */
export function listenForDrops(open: (source: Source) => void): void {
  const { documentElement: root } = document;
  let depth = 0;
  const mark = (change: number): void => {
    depth = Math.max(0, depth + change);
    root.classList.toggle('dropping', depth > 0);
  };
  root.addEventListener('dragenter', () => mark(1));
  root.addEventListener('dragleave', () => mark(-1));
  root.addEventListener('dragover', (event) => event.preventDefault());
  root.addEventListener('drop', (event) => {
    event.preventDefault();
    depth = 0;
    mark(0);
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length > 0) open({ kind: 'files', files });
  });
}
