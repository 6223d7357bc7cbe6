/** Starting the helper thread of a ring. */
import { Worker } from 'node:worker_threads';
import type { HelperData } from './helper-messages.js';

/**
 * Starts the thread with the port that `data` holds. It ends when the other end of the port is closed.
 *
 * @param onLost called when it has ended, with why; also when it ended in order. Needs the event loop of this thread.
 */
export function startHelperThread(data: HelperData, onLost: (reason: string) => void): void {
  const worker = new Worker(new URL('./helper-worker.js', import.meta.url), {
    workerData: data,
    transferList: [data.port],
  });
  worker.on('error', (error) => onLost(`The helper thread failed: ${error.message}`));
  worker.on('exit', () => onLost('The helper thread ended'));
}
