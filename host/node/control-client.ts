/** The other end of a device's control socket. */
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { CorralError, systemErrorCode } from '../errors.js';
import type { ControlAnswer, ControlRequest } from './control-protocol.js';
import { controlPath } from './control-server.js';

/** Whether a server of ours has made a socket for the device; it may be dead since. */
export function hasControl(id: number): boolean {
  return existsSync(controlPath(id));
}

/**
 * What the server answers.
 *
 * @throws CorralError that the server answers with; ERR_NOT_FOUND when nobody serves there, ERR_PERMISSION, ERR_IO
 */
export async function askDevice(id: number, request: ControlRequest): Promise<unknown> {
  const { result, error } = JSON.parse(await exchange(id, `${JSON.stringify(request)}\n`)) as ControlAnswer;
  if (error === undefined) return result;
  throw new CorralError(error.code, { reason: error.message });
}

function exchange(id: number, line: string): Promise<string> {
  const path = controlPath(id);
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
      return new CorralError('ERR_NOT_FOUND', { ...details, reason: 'No server of corral answers for this device' });
    case 'EACCES':
    case 'EPERM':
      return new CorralError('ERR_PERMISSION', { ...details, reason: 'Only who serves the device may control it' });
    default:
      return new CorralError('ERR_IO', { ...details, reason: error.message });
  }
}
