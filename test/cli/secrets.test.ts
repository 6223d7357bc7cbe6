/** `--object secret`: what is behind the id, and qemu-img's words for what is wrong. */

import { createCipheriv, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readSecrets } from '../../host/cli/secrets.js';
import { temporaryFolder } from '../temporary-folder.js';
import { qemuImg, runHere } from './run-corral.js';

const [KEY, IV] = [Buffer.alloc(32, 'key'), Buffer.alloc(16, 'iv')];
const MASTER = `secret,id=m,data=${KEY.toString('base64')},format=base64`;
const VECTOR = `iv=${IV.toString('base64')}`;

function encrypted(plain: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-256-cbc', KEY, IV);
  return Buffer.concat([cipher.update(plain), cipher.final()]);
}

describe('a secret that another one encrypts', () => {
  test.each([0, 1, 15, 16, 17, 1000])('of %d bytes is what it was before', (length) => {
    const plain = randomBytes(length);
    const path = join(temporaryFolder(), 'secret');
    writeFileSync(path, encrypted(plain));

    const secrets = readSecrets([
      MASTER,
      `secret,id=text,data=${encrypted(plain).toString('base64')},format=base64,keyid=m,${VECTOR}`,
      `secret,id=bytes,file=${path},keyid=m,${VECTOR}`,
    ]);

    expect(Buffer.from(secrets.get('text') ?? []).equals(plain)).toBe(true);
    expect(Buffer.from(secrets.get('bytes') ?? []).equals(plain)).toBe(true);
  });

  const data = `data=${encrypted(Buffer.from('secret')).toString('base64')},format=base64`;
  test.each([
    ['nothing is wrong', [MASTER, `secret,id=s,${data},keyid=m,${VECTOR}`]],
    ['no initialisation vector', [MASTER, `secret,id=s,${data},keyid=m`]],
    ['a short one', [MASTER, `secret,id=s,${data},keyid=m,iv=AAAA`]],
    ['one that is no Base64', [MASTER, `secret,id=s,${data},keyid=m,iv=@@`]],
    ['an unknown key', [MASTER, `secret,id=s,${data},keyid=nobody,${VECTOR}`]],
    ['a key that comes later', [`secret,id=s,${data},keyid=m,${VECTOR}`, MASTER]],
    ['a key that is no secret', ['throttle-group,id=m', `secret,id=s,${data},keyid=m,${VECTOR}`]],
    ['a short key', ['secret,id=m,data=short', `secret,id=s,${data},keyid=m,${VECTOR}`]],
    ['a part of a block', [MASTER, `secret,id=s,data=AAAA,format=base64,keyid=m,${VECTOR}`]],
    ['bytes that are no Base64', [MASTER, `secret,id=s,data=@@,format=base64,keyid=m,${VECTOR}`]],
    ['another key', [MASTER, `secret,id=s,${data},keyid=m,iv=${Buffer.alloc(16, 'other').toString('base64')}`]],
    ['nothing', [MASTER, `secret,id=s,keyid=m,${VECTOR}`]],
  ])('is told of as by qemu-img: %s', async (_, objects) => {
    const args = ['measure', ...objects.flatMap((object) => ['--object', object]), '--size', '1M'];

    const outcome = await runHere('qemu-img', args);

    expect(outcome).toEqual(qemuImg(args));
  });
});
