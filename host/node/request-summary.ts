/** What is told of a device's requests: counts, and the latencies that people ask for. */
import {
  METERED_KINDS,
  type MeteredKind,
  type MeterReading,
  percentile,
  type RequestStatistics,
} from './request-meter.js';

/** Requests of one kind in JSON: latencies in microseconds, null where there was no request. */
export interface RequestSummary {
  readonly count: number;
  readonly bytes: number;
  readonly errors: number;
  readonly mean: number | null;
  readonly p50: number | null;
  readonly p99: number | null;
  readonly 'p99.9': number | null;
}

export interface RequestsSummary extends Readonly<Record<MeteredKind, RequestSummary>> {
  readonly inFlight: number;
  readonly mostInFlight: number;
}

/** @param reading of a device's `requests()` */
export function summarize({ kinds, inFlight, mostInFlight }: MeterReading): RequestsSummary {
  const summaries = METERED_KINDS.map((kind) => [kind, summaryOf(kinds[kind])] as const);
  return { inFlight, mostInFlight, ...(Object.fromEntries(summaries) as Record<MeteredKind, RequestSummary>) };
}

function summaryOf(requests: RequestStatistics): RequestSummary {
  const { count, bytes, errors, microseconds } = requests;
  const at = (share: number): number | null => percentile(requests, share) ?? null;
  const mean = count === 0 ? null : microseconds / count;
  return { count, bytes, errors, mean, p50: at(0.5), p99: at(0.99), 'p99.9': at(0.999) };
}
