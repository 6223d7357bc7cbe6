/** The worker's side of the messages: one answer for every request, progress in between, cancelling by number. */

import { CorralError } from '../../../host/errors.js';
import type { Progress, Request, Response } from '../protocol.js';
import { Methods } from './methods.js';
import { problemOf } from './problem.js';
import { ReadMeter } from './read-meter.js';

interface Scope {
  onmessage: ((event: MessageEvent<Request>) => void) | null;
  postMessage(message: Response, transfer: Transferable[]): void;
}

const scope = globalThis as unknown as Scope;
const meter = new ReadMeter();
const methods = new Methods(meter);
const running = new Map<number, AbortController>();

scope.onmessage = ({ data }) => {
  if ('cancel' in data) {
    running.get(data.cancel)?.abort(new CorralError('ERR_CANCELLED', { reason: 'Cancelled' }));
    return;
  }
  const { id, method, argument } = data;
  const controller = new AbortController();
  running.set(id, controller);
  const { signal } = controller;
  const report = (progress: Progress): void => {
    if (!signal.aborted) send({ id, bytesRead: meter.bytes, progress });
  };
  methods
    .run(method, argument, { signal, report })
    .then(
      (answer) => send({ id, bytesRead: meter.bytes, answer }),
      (error: unknown) => send({ id, bytesRead: meter.bytes, problem: problemOf(error) }),
    )
    .finally(() => running.delete(id));
};

function send(message: Response): void {
  scope.postMessage(message, 'answer' in message ? transferable(message.answer) : []);
}

/** Bytes are handed over, not copied. */
function transferable(answer: unknown): Transferable[] {
  if (answer instanceof Uint8Array) return [answer.buffer as ArrayBuffer];
  const { weights } = (answer ?? {}) as { weights?: unknown };
  return weights instanceof Float64Array ? [weights.buffer as ArrayBuffer] : [];
}
