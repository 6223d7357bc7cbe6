/**
 * A serving thread's line to the thread that has made it: orders in, reports out. It sits in its ring, so its event loop never
 * runs: orders are fetched when the ring is woken.
 */
import { parentPort, receiveMessageOnPort, type TransferListItem } from 'node:worker_threads';
import type { CorralError } from '../errors.js';
import { toRecord } from './error-record.js';
import type { HelperData } from './helper-messages.js';
import { noteFromThread } from './thread-note.js';
import type { UblkOrder, UblkReport } from './ublk-messages.js';

/** Failures that also go to standard error, for those who do not read events. */
const MAXIMUM_FAILURES_TOLD = 10;
/** Errors that are reported in one second; the others are counted. */
const ERRORS_A_SECOND = 100;

export class WorkerPort {
  private readonly abandoned: Int32Array;
  private readonly errors = { second: 0, reported: 0, missed: 0 };
  private failuresTold = 0;
  /** Helper threads that were asked for: one, or a second one after a repair. */
  private helperCount = 0;

  /** @param path of the image, for messages */
  constructor(
    private readonly path: string,
    abandoned: SharedArrayBuffer,
  ) {
    this.abandoned = new Int32Array(abandoned);
  }

  /** The process ends: nobody will start a thread, or hear anything. */
  get isAbandoned(): boolean {
    return Atomics.load(this.abandoned, 0) !== 0;
  }

  report(message: UblkReport, transferList: TransferListItem[] = []): void {
    parentPort?.postMessage(message, transferList);
  }

  /**
   * Takes what has been ordered since the ring was woken last; one wake may stand for several orders, or for none. What is
   * about helper threads is done here.
   */
  takeOrders(
    engine: { helperLost(reason: string): void },
    take: (order: Exclude<UblkOrder, { type: 'helperLost' }>) => void,
  ): void {
    if (this.isAbandoned) engine.helperLost('The process ends');
    for (let order = nextOrder(); order !== undefined; order = nextOrder()) {
      if (order.type !== 'helperLost') take(order);
      else if (order.number === this.helperCount) engine.helperLost(order.reason);
    }
  }

  /** Has a helper thread started. */
  readonly startHelper = (data: HelperData): void => {
    this.report({ type: 'helper', data, number: ++this.helperCount }, [data.port]);
  };

  /**
   * Says why the kernel gets an error: to whoever reads the device's events, and the first few times at once.
   *
   * @param broken the engine itself has failed
   */
  tell(error: CorralError, broken: boolean): void {
    const { errors } = this;
    const second = Math.floor(Date.now() / 1000);
    if (second !== errors.second) Object.assign(errors, { second, reported: 0 });
    if (errors.reported < ERRORS_A_SECOND) {
      errors.reported++;
      this.report({ type: 'ioError', error: toRecord(error), missed: errors.missed, broken });
      errors.missed = 0;
    } else {
      errors.missed++;
    }
    if (this.failuresTold++ >= MAXIMUM_FAILURES_TOLD) return;
    noteFromThread(`corral: '${this.path}': ${error.message}`);
  }
}

function nextOrder(): UblkOrder | undefined {
  if (parentPort === null) return undefined;
  return receiveMessageOnPort(parentPort)?.message as UblkOrder | undefined;
}
