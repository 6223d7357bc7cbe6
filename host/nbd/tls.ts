/** TLS on connections that began without: certificates or keys that both sides know, in the files that QEMU and libnbd use. */
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { createSecureContext, createServer, type SecureContextOptions, type TlsOptions } from 'node:tls';
import { CorralError, systemErrorCode } from '../errors.js';
import { messageOf } from './error-value.js';
import { ProtocolError } from './protocol.js';

/** How the server proves who it is, and how clients do. */
export type TlsOptionsOfServer =
  | {
      /** A folder with `ca-cert.pem`, `server-cert.pem`, `server-key.pem` and perhaps `ca-crl.pem`. */
      readonly certificates: string;
      /** Clients need a certificate of that authority. Default: true. */
      readonly verifyPeer?: boolean;
    }
  | {
      /** A file with a line `NAME:HEXADECIMAL KEY` for each client. */
      readonly keys: string;
    };

/** What a connection needs to go over to TLS. */
export interface TlsCredentials {
  /**
   * Goes over to TLS: the client's next bytes belong to it. The socket belongs to what is returned.
   *
   * @throws ProtocolError when client and server do not come together.
   */
  upgrade(socket: Socket): Promise<Socket>;
}

/** Ciphers for keys that both sides know have to be asked for by name, and those that hide nothing to be left out. */
const PSK_CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:kECDHEPSK:!eNULL';
/** Bytes of the file with the keys. */
const LONGEST_KEY_FILE = 1 << 20;

/**
 * Reads the files.
 *
 * @throws CorralError ERR_NOT_FOUND, ERR_PERMISSION, ERR_INVALID_ARGUMENT: what is wrong with which of them
 */
export async function loadTls(options: TlsOptionsOfServer): Promise<TlsCredentials> {
  const settings = 'keys' in options ? await keySettings(options.keys) : await certificateSettings(options);
  return { upgrade: (socket) => upgrade(socket, settings) };
}

async function certificateSettings(options: { certificates: string; verifyPeer?: boolean }): Promise<TlsOptions> {
  const { certificates: folder, verifyPeer = true } = options;
  const read = (name: string): Promise<Buffer> => readText(join(folder, name));
  const [cert, key] = await Promise.all([read('server-cert.pem'), read('server-key.pem')]);
  const ca = verifyPeer ? await read('ca-cert.pem') : undefined;
  const crl = verifyPeer ? await read('ca-crl.pem').catch(nothingWhereMissing) : undefined;
  const context: SecureContextOptions = { cert, key, ...(ca && { ca }), ...(crl && { crl }), minVersion: 'TLSv1.2' };
  try {
    createSecureContext(context);
  } catch (error) {
    throw new CorralError('ERR_INVALID_ARGUMENT', {
      path: folder,
      reason: `The certificates there cannot be used: ${messageOf(error)}`,
      cause: error,
    });
  }
  return { ...context, requestCert: verifyPeer, rejectUnauthorized: verifyPeer };
}

async function keySettings(path: string): Promise<TlsOptions> {
  const keys = parseKeys(path, (await readText(path)).toString());
  return {
    pskCallback: (_socket, identity) => keys.get(identity) ?? null,
    ciphers: PSK_CIPHERS,
    minVersion: 'TLSv1.2',
  };
}

function parseKeys(path: string, text: string): Map<string, Buffer> {
  const keys = new Map<string, Buffer>();
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const [, name, key] = /^([^:]+):((?:[0-9A-Fa-f]{2})+)\s*$/.exec(line) ?? [];
    if (name === undefined || key === undefined) {
      throw new CorralError('ERR_INVALID_ARGUMENT', {
        path,
        reason: `Line ${index + 1} of the keys is not a name, a colon and a hexadecimal key`,
      });
    }
    keys.set(name, Buffer.from(key, 'hex'));
  }
  if (keys.size === 0) throw new CorralError('ERR_INVALID_ARGUMENT', { path, reason: 'There is no key in the file' });
  return keys;
}

async function readText(path: string): Promise<Buffer> {
  try {
    const bytes = await readFile(path);
    if (bytes.length > LONGEST_KEY_FILE)
      throw new CorralError('ERR_TOO_LARGE', { path, reason: 'The file is too long' });
    return bytes;
  } catch (error) {
    if (error instanceof CorralError) throw error;
    const code = systemErrorCode(error);
    if (code === 'ENOENT') throw new CorralError('ERR_NOT_FOUND', { path, reason: 'There is no such file' });
    const reason = `The file cannot be read: ${messageOf(error)}`;
    throw new CorralError(code === 'EACCES' ? 'ERR_PERMISSION' : 'ERR_IO', { path, reason, cause: error });
  }
}

function nothingWhereMissing(error: unknown): undefined {
  if (error instanceof CorralError && error.code === 'ERR_NOT_FOUND') return undefined;
  throw error;
}

/** A server of Node's that never listens: it is what tells of a failed handshake in words. */
function upgrade(socket: Socket, settings: TlsOptions): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const server = createServer({ ...settings, allowHalfOpen: true }, resolve);
    server.on('tlsClientError', (error) => {
      socket.destroy();
      reject(new ProtocolError(`the client and this server do not come together over TLS: ${messageOf(error)}`));
    });
    server.emit('connection', socket);
  });
}
