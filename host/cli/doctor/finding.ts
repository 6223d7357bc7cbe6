/** What the doctor says of one thing. */

/**
 * - `ok`: as it should be.
 * - `limited`: works, but something is slower or left out.
 * - `missing`: no image can be attached as a block device.
 * - `unknown`: could not be looked at, because something else is missing.
 */
export type FindingStatus = 'ok' | 'limited' | 'missing' | 'unknown';

export interface Finding {
  /** For programs; stays what it is. */
  readonly id: string;
  readonly status: FindingStatus;
  /** What was looked at. */
  readonly about: string;
  /** How it was found. */
  readonly found: string;
  /** What mends it. */
  readonly fix?: string | undefined;
}

/** Whether everything is there for `corral attach`. */
export function mayAttach(findings: readonly Finding[]): boolean {
  return findings.every(({ status }) => status === 'ok' || status === 'limited');
}
