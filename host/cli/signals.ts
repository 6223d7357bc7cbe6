/** SIGINT, SIGTERM and SIGHUP as an `AbortSignal`: the work under way ends in order. */

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
/** An impatient user's third signal ends the process where it stands. */
const PATIENCE = 2;

/** What asks a command to stop. */
export interface StopSignal {
  readonly signal: AbortSignal;
  /** Exit status by which a shell knows that this signal ended the process; 0 before there was one. */
  readonly exitCode: number;
  /** Without a signal so far, signals do again what they do by default; else the process is ending, and goes on to. */
  release(): void;
}

/** Listens for signals until it is released. */
export function stopSignal(): StopSignal {
  const controller = new AbortController();
  let received = 0;
  let exitCode = 0;
  const listener = (name: NodeJS.Signals): void => {
    received += 1;
    exitCode ||= 128 + (SIGNALS[name as keyof typeof SIGNALS] ?? 0);
    if (received > PATIENCE) process.exit(exitCode);
    controller.abort();
  };
  const release = (): void => {
    if (received > 0) return;
    for (const name of Object.keys(SIGNALS)) process.off(name, listener);
  };
  for (const name of Object.keys(SIGNALS)) process.on(name, listener);
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode;
    },
    release,
  };
}
