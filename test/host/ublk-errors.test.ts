/** What the kernel refuses, in words that say what to do. */
import { expect, test } from 'vitest';
import { describe as inWords } from '../../host/node/ublk-errors.js';

function refusal(code: string, errno: number): Error {
  return Object.assign(new Error(`io_uring_setup: ${code}`), { operation: 'io_uring_setup', errno, code });
}

test.each([
  ['EMFILE', 24, 'ERR_IO', 'ulimit -n, or LimitNOFILE='],
  ['EPERM', 1, 'ERR_PERMISSION', 'run it as root'],
  ['ENOSPC', 28, 'ERR_NO_SPACE', 'ublks_max'],
  ['EIO', 5, 'ERR_IO', 'io_uring_setup: EIO'],
])('%s', (code, errno, expected, words) => {
  const error = inWords(refusal(code, errno), 7);

  expect(error).toMatchObject({
    code: expected,
    message: expect.stringContaining(words),
    details: { device: 7, operation: 'io_uring_setup', errno },
  });
});
