/**
 * Standard input and output as images. An image is read here and there, and a disk says how long it is at its beginning, which
 * nobody knows of a stream: what comes in lies in a temporary file meanwhile, which has no name as soon as it is open; a
 * file that is standard input is read where it is. What goes out does so in one pass where its places are known ahead: else
 * it is made in a temporary file, too.
 */

import { createReadStream, fstatSync, readFileSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CommandError, OutputClosed, reasonOf } from './output.js';

const ZEROS = Buffer.alloc(65536);

/** A folder of our own among the temporary ones. */
export class TemporaryFolder {
  private constructor(private readonly folder: string) {}

  /** Throws `CommandError`. */
  static async create(): Promise<TemporaryFolder> {
    try {
      return new TemporaryFolder(await mkdtemp(join(tmpdir(), 'corral-')));
    } catch (error) {
      throw new CommandError(`Could not create a temporary file in '${tmpdir()}': ${reasonOf(error)}`, 1, {
        cause: error,
      });
    }
  }

  /** A path in it. */
  path(name: string): string {
    return join(this.folder, name);
  }

  /** The folder and what it holds lose their names; what is open stays. */
  async close(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Everything that comes from standard input, in a new file; long zeros are holes of it. Throws `CommandError`. */
export async function receiveInput(path: string, signal: AbortSignal): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    let length = 0;
    await pipeline(
      process.stdin,
      async (chunks: AsyncIterable<Buffer>) => {
        for await (const chunk of chunks) {
          const isZero = chunk.length <= ZEROS.length && ZEROS.compare(chunk, 0, chunk.length, 0, chunk.length) === 0;
          for (let done = 0; !isZero && done < chunk.length; ) {
            done += (await file.write(chunk, done, chunk.length - done, length + done)).bytesWritten;
          }
          length += chunk.length;
        }
      },
      { signal },
    );
    await file.truncate(length);
  } catch (error) {
    if (signal.aborted) throw error;
    throw new CommandError(`Error while reading standard input into '${path}': ${reasonOf(error)}`, 1, {
      cause: error,
    });
  } finally {
    await file.close();
  }
}

/** A path of the file that standard input is, from its beginning on; undefined when it is something else. */
export function inputFile(): string | undefined {
  try {
    const begins = /^pos:\s*0$/m.test(readFileSync('/proc/self/fdinfo/0', 'latin1'));
    return begins && fstatSync(0).isFile() ? '/proc/self/fd/0' : undefined;
  } catch {
    return undefined;
  }
}

/** Sends bytes to standard output as they come. Throws `OutputClosed` when it cannot be written, or what `bytes` throws. */
export async function sendBytes(bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
  let failure: { readonly error: unknown } | undefined;
  async function* watched(): AsyncGenerator<Uint8Array> {
    try {
      yield* bytes;
    } catch (error) {
      failure = { error };
      throw error;
    }
  }
  try {
    await pipeline(Readable.from(watched(), { highWaterMark: 2 }), process.stdout, { signal, end: false });
  } catch (error) {
    if (signal.aborted) throw error;
    if (failure !== undefined) throw failure.error;
    // What was wrong with it is told when the process ends.
    throw new OutputClosed();
  }
}

/** Sends a file to standard output, from its beginning to its end. Throws `OutputClosed` when it cannot be written. */
export async function sendOutput(path: string, signal: AbortSignal): Promise<void> {
  try {
    await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), process.stdout, { signal, end: false });
  } catch (error) {
    if (signal.aborted) throw error;
    // What was wrong with it is told when the process ends.
    throw new OutputClosed();
  }
}
