import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

/** Lets a worker of another process say something, whose standard error the shell has redirected. */
function noteOfWorker(redirection: string): { status: number | null; stdout: string; stderr: string } {
  const module = join(import.meta.dirname, '../../dist/host/node/thread-note.js');
  const worker = `import(${JSON.stringify(module)}).then(({ noteFromThread }) => {
    noteFromThread('no space left');
    console.log('goes on');
  })`;
  const program = `new (require('node:worker_threads').Worker)(${JSON.stringify(worker)}, { eval: true })`;
  const shell = `exec "$0" -e "$1" ${redirection}`;
  return spawnSync('sh', ['-c', shell, process.execPath, program], { encoding: 'utf8' });
}

test('a thread that serves says why on standard error', () => {
  const { status, stdout, stderr } = noteOfWorker('');

  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'goes on\n', stderr: 'no space left\n' });
});

test('a thread that serves goes on when nobody can hear it', () => {
  const { status, stdout } = noteOfWorker('2> /dev/full');

  expect({ status, stdout }).toEqual({ status: 0, stdout: 'goes on\n' });
});
