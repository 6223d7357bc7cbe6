/** The other end of a control socket. */
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { CorralError, systemErrorCode } from '../errors.js';
import type { ControlAnswer, ControlRequest } from './control-protocol.js';
import { controlPath } from './control-server.js';

/** Whether a server of ours has made a socket for the device; it may be dead since. */
export function hasControl(id: number): boolean {
  return existsSync(controlPath(id));
}

/** What the server of a device answers. Rejects as `askServer`. */
export function askDevice(id: number, request: ControlRequest): Promise<unknown> {
  return askServer(controlPath(id), request);
}

/**
 * What the server with this control socket answers.
 *
 * @throws CorralError that the server answers with; ERR_NOT_FOUND when nobody serves there, ERR_PERMISSION, ERR_IO
 */
export async function askServer(path: string, request: ControlRequest): Promise<unknown> {
  const { result, error } = JSON.parse(await exchange(path, `${JSON.stringify(request)}\n`)) as ControlAnswer;
  if (error === undefined) return result;
  throw new CorralError(error.code, { reason: error.message });
}

function exchange(path: string, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(path);
    const fail = (error: CorralError): void => {
      socket.destroy();
      reject(error);
    };
    socket.setEncoding('utf8');
    socket.on('connect', () => socket.write(line));
    socket.on('error', (error) => fail(describe(error, path)));
    socket.on('data', (piece: string) => {
      text += piece;
      const end = text.indexOf('\n');
      if (end < 0) return;
      socket.end();
      resolve(text.slice(0, end));
    });
    socket.on('close', () => fail(new CorralError('ERR_IO', { path, reason: 'The server ended without an answer' })));
  });
}

function describe(error: Error, path: string): CorralError {
  const details = { path, cause: error };
  switch (systemErrorCode(error)) {
    case 'ENOENT':
    case 'ECONNREFUSED':
      return new CorralError('ERR_NOT_FOUND', { ...details, reason: 'No server of corral answers for it' });
    case 'EACCES':
    case 'EPERM':
      return new CorralError('ERR_PERMISSION', { ...details, reason: 'Only who serves it may control it' });
    default:
      return new CorralError('ERR_IO', { ...details, reason: error.message });
  }
}
