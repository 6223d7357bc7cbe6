/** Secrets that another secret encrypts: AES-256-CBC with PKCS #7 padding, in QEMU's words where something is wrong. */

import { createRequire } from 'node:module';
import { CommandError } from './output.js';

const KEY_LENGTH = 32;
const BLOCK = 16;

/** The secret in what `read` gives, which is asked once key and initialisation vector are known to be good. Throws `CommandError`. */
export function decryptSecret(read: () => Uint8Array, key: Uint8Array, iv: Uint8Array | undefined): Uint8Array {
  if (key.length !== KEY_LENGTH) throw new CommandError(`Key should be ${KEY_LENGTH} bytes in length`);
  if (iv === undefined) throw new CommandError('IV is required to decrypt secret');
  if (iv.length !== BLOCK) throw new CommandError(`IV should be ${BLOCK} bytes in length not ${iv.length}`);
  const encrypted = read();
  if (encrypted.length % BLOCK !== 0) {
    throw new CommandError(`Length ${encrypted.length} must be a multiple of block size ${BLOCK}`);
  }
  // Loading it takes longer than most verbs, and hardly anybody needs it.
  const crypto = createRequire(import.meta.url)('node:crypto') as typeof import('node:crypto');
  const cipher = crypto.createDecipheriv('aes-256-cbc', key, iv).setAutoPadding(false);
  const padded = Buffer.concat([cipher.update(encrypted), cipher.final()]);
  const padding = padded.at(-1) ?? 0;
  if (padding <= BLOCK) return padded.subarray(0, padded.length - padding);
  throw new CommandError(`Incorrect number of padding bytes (${padding}) found on decrypted data`);
}
