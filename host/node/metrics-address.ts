/** Where metrics are served. */
import { CorralError } from '../errors.js';

/** A Unix socket, or a loopback address and port. */
export type MetricsAddress = { readonly path: string } | { readonly host: string; readonly port: number };

const LOOPBACK = /^(127(\.\d{1,3}){3}|::1|localhost)$/;

/**
 * `unix:PATH`, or `HOST:PORT` where the host is a loopback address (`[::1]:9100`).
 *
 * @throws CorralError ERR_INVALID_ARGUMENT
 */
export function parseMetricsAddress(text: string): MetricsAddress {
  if (text.startsWith('unix:') && text.length > 5) return { path: text.slice(5) };
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host === undefined || !(port <= 65535)) throw invalid(`'${text}' is neither unix:PATH nor HOST:PORT`);
  if (LOOPBACK.test(host)) return { host, port };
  throw invalid(`'${host}' is not a loopback address: metrics are for this machine alone`);
}

function invalid(reason: string): CorralError {
  return new CorralError('ERR_INVALID_ARGUMENT', { reason });
}
