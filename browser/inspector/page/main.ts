/** The page: opens what is dropped, each time in a worker of its own. */

import type { Source } from '../protocol.js';
import { Client, isCancelled } from './client.js';
import { h } from './dom.js';
import { landing, listenForDrops } from './landing.js';
import { Shell } from './shell.js';
import { problemFrom } from './task.js';
import { bytesText } from './text.js';

const mode = document.documentElement.dataset.mode === 'url' ? 'url' : 'files';
const app = h('div', { id: 'app' });
const read = h('span', { id: 'bytes-read' });
const start = landing(mode, (source) => void open(source));
let client: Client | undefined;
let shell: Shell | undefined;

document.body.append(
  h('a', { class: 'skip', href: '#content', on: { click: skip } }, 'To the content'),
  h(
    'header',
    { class: 'brand' },
    h('span', { class: 'logo', 'aria-hidden': 'true' }),
    h('span', {}, 'Corral'),
    h('span', { class: 'hint' }, 'image inspector'),
  ),
  app,
  footer(),
);
if (mode === 'files') listenForDrops((source) => void open(source));
showStart();

/** A hostile image can spoil nothing for the next one: that gets another worker, and another engine. */
async function open(source: Source): Promise<void> {
  shell?.close();
  client?.close();
  shell = undefined;
  read.textContent = '';
  const mine = new Client((bytes) => {
    if (mine === client) tellRead(bytes);
  });
  client = mine;
  showStart();
  start.busy('Opening …');
  try {
    const overview = await mine.call('open', source);
    const again = (): void => {
      shell?.close();
      shell = undefined;
      client = undefined;
      read.textContent = '';
      history.replaceState(null, '', location.pathname + location.search);
      showStart();
    };
    const openTop = (top: number): void => void open(source.kind === 'files' ? { ...source, top } : source);
    shell = new Shell(mine, overview, { again, openTop });
    app.replaceChildren(shell.element);
  } catch (error) {
    if (mine !== client || isCancelled(error)) return;
    mine.close();
    client = undefined;
    start.fail(problemFrom(error));
  }
}

function showStart(): void {
  document.title = 'Corral: what is in this disk image?';
  start.busy('');
  app.replaceChildren(start.element);
}

function tellRead(bytes: number): void {
  read.textContent = `${bytesText(bytes)} read`;
  read.dataset.bytes = String(bytes);
}

function footer(): HTMLElement {
  const promise = mode === 'files' ? 'Nothing leaves this machine' : 'Connects to the server that you named';
  return h('footer', {}, h('span', {}, promise), read);
}

/** The part behind `#` of the address is taken. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById('content')?.focus();
}
