/** Where the server's socket is, and who may reach it. */
import { lstat, mkdir, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CorralError } from '../errors.js';

/** What fits into the kernel's `sun_path` beside its final NUL, in bytes. */
const MAXIMUM_SOCKET_PATH_LENGTH = 107;

/**
 * A path for the socket of an export, in a folder that only this user can enter; the folder is made if need be.
 *
 * @param name usually the image's file name; what does not belong into a file name is replaced.
 * @throws CorralError ERR_PERMISSION when somebody else owns the folder or may enter it.
 */
export async function defaultSocketPath(name: string): Promise<string> {
  const runtimeFolder = process.env.XDG_RUNTIME_DIR;
  const folder = runtimeFolder ? join(runtimeFolder, 'corral') : join(tmpdir(), `corral-${process.getuid?.() ?? 0}`);
  await ensurePrivateFolder(folder);
  return join(folder, `${name.replaceAll(/[^\p{L}\p{N}._-]/gu, '-')}.sock`);
}

/** In a folder that all users share, somebody else may have been there first. */
async function ensurePrivateFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const facts = await lstat(folder);
  if (!facts.isDirectory() || facts.uid !== process.getuid?.() || (facts.mode & 0o077) !== 0) {
    throw new CorralError('ERR_PERMISSION', {
      path: folder,
      reason: 'The folder for sockets is not private to this user',
    });
  }
}

/** @throws CorralError ERR_INVALID_ARGUMENT when the kernel cannot take the path. */
export function checkSocketPath(socketPath: string): void {
  const length = Buffer.byteLength(socketPath);
  if (length > MAXIMUM_SOCKET_PATH_LENGTH) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      path: socketPath,
      reason: `A socket's path has at most ${MAXIMUM_SOCKET_PATH_LENGTH} bytes, this one has ${length}`,
    });
  }
  if (length === 0 || socketPath.includes('\0')) {
    throw new CorralError('ERR_INVALID_ARGUMENT', { path: socketPath, reason: 'This is no path for a socket' });
  }
}

/**
 * Removes the socket of a server that is gone.
 *
 * @throws CorralError ERR_EXISTS when the server lives, or when this is no socket.
 */
export async function removeStaleSocket(socketPath: string): Promise<void> {
  const facts = await lstat(socketPath);
  if (!facts.isSocket()) {
    throw new CorralError('ERR_EXISTS', {
      path: socketPath,
      reason: 'There is a file of this name, and it is no socket',
    });
  }
  if (!(await isDead(socketPath))) {
    throw new CorralError('ERR_EXISTS', { path: socketPath, reason: 'A server is listening on this socket already' });
  }
  await unlink(socketPath);
}

/** Only a refused connection proves that nobody listens; a full queue or a missing permission does not. */
function isDead(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socketPath);
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (failure: NodeJS.ErrnoException) => resolve(failure.code === 'ECONNREFUSED'));
  });
}
