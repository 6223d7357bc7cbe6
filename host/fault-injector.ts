/** Makes requests fail or wait by rules, at the moments that it is told of. Equal in use to QEMU's blkdebug. */

import { FAULT_EVENTS, type FaultRule, type InjectError, type IoType } from './fault-rules.js';

/** Names of the errors that the engine tells apart. */
const CODES: Readonly<Record<number, string>> = { 5: 'EIO', 28: 'ENOSPC', 122: 'EDQUOT' };

/** The error of a rule, as the system would have raised it. */
export class InjectedError extends Error {
  readonly code: string;

  /**
   * @param errno Linux's number
   * @param message what it is called
   */
  constructor(
    readonly errno: number,
    message: string,
  ) {
    super(message);
    this.code = CODES[errno] ?? 'EIO';
  }
}

/** Holds the next request that comes to its event. */
interface Break {
  readonly event: string;
  readonly tag: string;
}

interface Suspended {
  readonly tag: string;
  resume(): void;
}

export interface FaultInjectorOptions {
  /** Told when a request is held, and when one goes on. */
  readonly onChange?: (what: 'suspended' | 'resuming', tag: string) => void;
  /** What errors are called, by Linux's numbers. */
  readonly errorText?: (errno: number) => string;
}

export class FaultInjector {
  private rules: readonly FaultRule[];
  private state = 1;
  /** Rules whose event came last. */
  private active: readonly InjectError[] = [];
  private breaks: readonly Break[] = [];
  private suspended: readonly Suspended[] = [];
  private readonly waiters: { readonly tag: string; done(): void }[] = [];

  private readonly onChange: (what: 'suspended' | 'resuming', tag: string) => void;
  private readonly errorText: (errno: number) => string;

  constructor(rules: readonly FaultRule[], options: FaultInjectorOptions = {}) {
    this.rules = rules;
    this.onChange = options.onChange ?? (() => {});
    this.errorText = options.errorText ?? ((errno) => `Injected error ${errno}`);
    void this.announce('none');
  }

  /** Nothing would come of this event. */
  ignores(event: string): boolean {
    return !this.rules.some((rule) => rule.event === event) && !this.breaks.some((held) => held.event === event);
  }

  /** The moment has come: rules act. Ends when no break holds the request any more. */
  async announce(event: string): Promise<void> {
    const matching = this.rules.filter(
      (rule) => rule.event === event && (rule.state === 0 || rule.state === this.state),
    );
    const errors = matching.filter((rule) => rule.action === 'inject-error');
    if (errors.length > 0) this.active = errors;
    const held = this.breaks.filter((one) => one.event === event).reverse();
    this.breaks = this.breaks.filter((one) => one.event !== event);
    const resumed = held.map(({ tag }) => this.suspend(tag));
    for (const end of resumed) await end;
    const change = matching.find((rule) => rule.action === 'set-state');
    if (change !== undefined) this.state = change.newState;
  }

  /** Throws InjectedError when a rule wants this request to fail. `length` is 0 for a flush. */
  check(ioType: IoType, offset: number, length: number): void {
    const rule = this.active.find((one) => applies(one, ioType, offset, length));
    if (rule === undefined || rule.errno === 0) return;
    if (rule.once) {
      this.active = this.active.filter((one) => one !== rule);
      this.rules = this.rules.filter((one) => one !== rule);
    }
    throw new InjectedError(rule.errno, this.errorText(rule.errno));
  }

  /** The next request that comes to the event is held, under a name. False when there is no such event. */
  break(event: string, tag: string): boolean {
    if (!FAULT_EVENTS.has(event)) return false;
    this.breaks = [...this.breaks, { event, tag }];
    return true;
  }

  isSuspended(tag: string): boolean {
    return this.suspended.some((one) => one.tag === tag);
  }

  /** Ends when a request is held under this name. */
  async untilSuspended(tag: string): Promise<void> {
    if (this.isSuspended(tag)) return;
    await new Promise<void>((done) => this.waiters.push({ tag, done }));
  }

  /** One request that is held under this name goes on. False when there is none. */
  resume(tag: string): boolean {
    const first = this.suspended.find((one) => one.tag === tag);
    if (first === undefined) return false;
    this.release(first);
    return true;
  }

  /** Forgets breaks of this name, and lets go on what they hold. False when none of them was left to come. */
  removeBreak(tag: string): boolean {
    const left = this.breaks.filter((one) => one.tag !== tag);
    const found = left.length < this.breaks.length;
    this.breaks = left;
    for (const one of this.suspended.filter((held) => held.tag === tag)) this.release(one);
    return found;
  }

  /** Forgets all breaks, and lets all go on. */
  removeBreaks(): void {
    this.breaks = [];
    for (const one of this.suspended) this.release(one);
  }

  private suspend(tag: string): Promise<void> {
    return new Promise((resume) => {
      this.suspended = [...this.suspended, { tag, resume }];
      this.onChange('suspended', tag);
      for (const waiter of this.waiters.splice(0)) {
        if (waiter.tag === tag) waiter.done();
        else this.waiters.push(waiter);
      }
    });
  }

  private release(one: Suspended): void {
    this.suspended = this.suspended.filter((held) => held !== one);
    this.onChange('resuming', one.tag);
    one.resume();
  }
}

function applies(rule: InjectError, ioType: IoType, offset: number, length: number): boolean {
  if (rule.ioType !== undefined && rule.ioType !== ioType) return false;
  return rule.offset === undefined || (rule.offset >= offset && rule.offset < offset + length);
}
