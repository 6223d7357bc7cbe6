/** The files of a browser in the browser itself: the suite that every `BlockFile` passes runs here, its files are there. */

import type { Page, Worker } from 'playwright-core';
import { afterAll, beforeAll } from 'vitest';
import type { BlockFile } from '../../host/block-file.js';
import { CorralError, type CorralErrorCode } from '../../host/errors.js';
import { describeBlockFile, describeReadOnlyFile } from '../conformance/block-file-suite.js';
import { startBrowser, type TestBrowser } from './chromium.js';
import type {} from './page-globals.js';

/** Synchronous access handles are had in workers only. */
const WORKER = `import * as corral from './corral.js';
globalThis.corral = corral;
globalThis.root = await navigator.storage.getDirectory();
globalThis.files = [];`;

declare global {
  var files: BlockFile[];
}

let browser: TestBrowser;
let page: Page;
let worker: Worker;

beforeAll(async () => {
  browser = await startBrowser({ 'files-worker.js': WORKER });
  page = await browser.newPage();
  const started = page.waitForEvent('worker');
  await page.evaluate(() => {
    Object.assign(globalThis, { filesWorker: new Worker('./files-worker.js', { type: 'module' }) });
  });
  worker = await started;
  while (!(await worker.evaluate(() => globalThis.files !== undefined))) await page.waitForTimeout(10);
});

afterAll(() => browser.close());

/** A file in the worker. */
class FileThere implements BlockFile {
  readonly zeroBeyondEnd = true;

  constructor(
    private readonly number: number,
    readonly readOnly: boolean,
  ) {}

  size(): Promise<number> {
    return this.call('size', []);
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    target.set(await this.call<Uint8Array>('read', [offset], target.length));
  }

  write(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    return this.call('write', [offset, pieces]);
  }

  writeZeroes(offset: number, length: number): Promise<void> {
    return this.call('writeZeroes', [offset, length]);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.call('discard', [offset, length]);
  }

  truncate(length: number): Promise<void> {
    return this.call('truncate', [length]);
  }

  flush(): Promise<void> {
    return this.call('flush', []);
  }

  close(): Promise<void> {
    return this.call('close', []);
  }

  /** With `filled`, the bytes of a target of that length are the result. */
  private async call<T>(
    name: Exclude<keyof BlockFile, string & { extentAt: never }>,
    args: unknown[],
    filled = -1,
  ): Promise<T> {
    const answer = await worker.evaluate(
      async ([number, method, given, length]) => {
        const target = new Uint8Array(Math.max(0, length)).fill(0xee);
        const file = files[number] as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
        try {
          const value = await file[method]!(...given, ...(length < 0 ? [] : [target]));
          return { value: length < 0 ? value : target };
        } catch (error) {
          return { code: (error as { code: string }).code, reason: (error as Error).message };
        }
      },
      [this.number, name, args, filled] as const,
    );
    if ('code' in answer) throw new CorralError(answer.code as CorralErrorCode, { reason: answer.reason });
    return answer.value as T;
  }
}

describeBlockFile('a file of the private file system in Chromium', {
  async writable() {
    const number = await worker.evaluate(async () => {
      const handle = await root.getFileHandle(`file-${files.length}`, { create: true });
      return files.push(await corral.OpfsFile.open(handle as never, { write: true })) - 1;
    });
    return new FileThere(number, false);
  },
  async readOnly(contents) {
    const number = await worker.evaluate(async (bytes) => {
      const handle = await root.getFileHandle(`file-${files.length}`, { create: true });
      const filled = await corral.OpfsFile.open(handle as never, { write: true });
      await filled.write(0, [bytes]);
      await filled.close();
      return files.push(await corral.OpfsFile.open(handle as never)) - 1;
    }, contents);
    return new FileThere(number, true);
  },
});

describeReadOnlyFile('a blob in Chromium', async (contents) => {
  const number = await worker.evaluate(
    async (bytes) => files.push(new corral.BlobFile(new Blob([bytes as Uint8Array<ArrayBuffer>]))) - 1,
    contents,
  );
  return new FileThere(number, true);
});
