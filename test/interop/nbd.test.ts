import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { MemoryExport, serve, temporaryFolder } from '../host/nbd-client.js';

const run = promisify(execFile);

const MIB = 1024 * 1024;

/** Runs a real client; a failure shows what it said. */
async function client(program: string, ...args: string[]): Promise<string> {
  const { stdout, stderr } = await run(program, args, { timeout: 60_000 });
  return stdout + stderr;
}

/** Bytes that compress to nothing else: random, with a stretch of zeros and a last byte that is no zero. */
function diskContent(size: number): Buffer {
  const content = randomBytes(size);
  content.fill(0, size >> 2, size >> 1);
  content[size - 1] = 0xa5;
  return content;
}

function filledExport(content: Buffer, options: { readOnly?: boolean } = {}): MemoryExport {
  const exported = new MemoryExport(content.length, options);
  exported.bytes.set(content);
  return exported;
}

describe('QEMU', () => {
  test('qemu-img info sees the size', async () => {
    const { server, lines } = await serve(new MemoryExport(16 * MIB));

    const facts = JSON.parse(await client('qemu-img', 'info', '--output=json', server.uri));

    expect(facts['virtual-size']).toBe(16 * MIB);
    expect(facts.format).toBe('raw');
    expect(lines).toEqual([]);
  });

  test('qemu-io writes, also durably, flushes, and finds its patterns again', async () => {
    const { server, lines } = await serve(new MemoryExport(16 * MIB));

    const output = await client(
      'qemu-io',
      ...['-f', 'raw'],
      ...['-c', 'write -P 0x11 0 64k'],
      ...['-c', 'write -f -P 0x22 1000000 12345'],
      ...['-c', 'write -z 3M 1M'],
      ...['-c', 'flush'],
      ...['-c', 'read -P 0x11 0 64k'],
      ...['-c', 'read -P 0x22 1000000 12345'],
      ...['-c', 'read -P 0 64k 128k'],
      server.uri,
    );

    expect(output).not.toMatch(/failed|error/i);
    expect(output.match(/^(read|wrote) /gm)).toHaveLength(6);
    expect(lines).toEqual([]);
  });

  test('qemu-io asks for a durable write, and it is one', async () => {
    const exported = new MemoryExport(MIB);
    const { server } = await serve(exported);

    await client('qemu-io', '-f', 'raw', '-c', 'write -f -P 7 4096 4096', server.uri);

    expect(exported.durableWrites).toEqual([true]);
    expect(exported.bytes.subarray(4096, 8192).every((byte) => byte === 7)).toBe(true);
  });

  test('qemu-io has 16 requests in flight that are not served in order', async () => {
    const exported = new MemoryExport(16 * MIB);
    const read = exported.read.bind(exported);
    let inFlight = 0;
    let most = 0;
    exported.read = async (offset, target) => {
      inFlight += 1;
      most = Math.max(most, inFlight);
      await new Promise((resolve) => setTimeout(resolve, (offset / 65536) % 2 === 0 ? 20 : 5));
      await read(offset, target);
      inFlight -= 1;
    };
    const { server } = await serve(exported);
    for (let index = 0; index < 16; index += 1) {
      exported.bytes.fill(index + 1, index * 65536, (index + 1) * 65536);
    }

    const reads = Array.from({ length: 16 }, (_, index) => ['-c', `aio_read -P ${index + 1} ${index * 65536} 65536`]);
    const output = await client('qemu-io', '-f', 'raw', ...reads.flat(), '-c', 'aio_flush', server.uri);

    expect(output).not.toMatch(/failed|error/i);
    expect(most).toBe(16);
  });

  test('qemu-io may not write what is read-only', async () => {
    const { server } = await serve(new MemoryExport(MIB, { readOnly: true }));

    const writing = client('qemu-io', '-f', 'raw', '-c', 'write 0 512', server.uri);

    await expect(writing).rejects.toMatchObject({ stderr: expect.stringContaining('Permission denied') });
    expect(await client('qemu-io', '-r', '-f', 'raw', '-c', 'read -P 0 0 512', server.uri)).toMatch(/^read 512/m);
  });

  test('qemu-img convert copies an export to a file and a file to an export', async () => {
    const content = diskContent(9 * MIB + 512);
    const source = await serve(filledExport(content, { readOnly: true }));
    const target = new MemoryExport(content.length);
    const destination = await serve(target);
    const file = join(await temporaryFolder(), 'copy.qcow2');

    await client('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', source.server.uri, file);
    await client('qemu-img', 'convert', '-n', '-f', 'qcow2', '-O', 'raw', file, destination.server.uri);

    expect(content.equals(target.bytes)).toBe(true);
    expect(target.flushCount).toBeGreaterThan(0);
    expect([...source.lines, ...destination.lines]).toEqual([]);
  });

  test('a disk whose size is no multiple of a sector is copied whole by nbdcopy', async () => {
    const content = diskContent(MIB + 7);
    const { server } = await serve(filledExport(content));
    const file = join(await temporaryFolder(), 'copy');

    await client('nbdcopy', server.uri, file);

    expect(content.equals(await readFile(file))).toBe(true);
  });
});

describe('libnbd', () => {
  test('nbdinfo sees everything that was negotiated', async () => {
    const { server, lines } = await serve(new MemoryExport(16 * MIB));

    const facts = JSON.parse(await client('nbdinfo', '--json', server.uri));

    expect(facts).toMatchObject({ protocol: 'newstyle-fixed', structured: true });
    expect(facts.exports).toHaveLength(1);
    expect(facts.exports[0]).toMatchObject({
      'export-size': 16 * MIB,
      is_read_only: false,
      can_df: true,
      can_fua: true,
      can_flush: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      block_size_minimum: 1,
      block_size_preferred: 65536,
      block_size_maximum: 32 * MIB,
    });
    expect(lines).toEqual([]);
  });

  test('nbdinfo lists the export by its name', async () => {
    const { server, lines } = await serve(new MemoryExport(MIB, { readOnly: true }));

    const facts = JSON.parse(await client('nbdinfo', '--list', '--json', server.uri));

    expect(facts.exports).toHaveLength(1);
    expect(facts.exports[0]).toMatchObject({ 'export-name': 'disk', 'export-size': MIB, is_read_only: true });
    expect(lines).toEqual([]);
  });

  test('nbdcopy copies an export to a file, over several connections', async () => {
    const content = diskContent(64 * MIB);
    const { server, lines } = await serve(filledExport(content, { readOnly: true }));
    const file = join(await temporaryFolder(), 'copy');

    await client('nbdcopy', '--connections=4', server.uri, file);

    expect(content.equals(await readFile(file))).toBe(true);
    expect(lines).toEqual([]);
  });

  test('nbdcopy copies a file to an export and flushes it', async () => {
    const content = diskContent(64 * MIB);
    const exported = new MemoryExport(content.length);
    const { server, lines } = await serve(exported);
    const file = join(await temporaryFolder(), 'source');
    await writeFile(file, content);

    await client('nbdcopy', '--connections=4', '--flush', file, server.uri);

    expect(content.equals(exported.bytes)).toBe(true);
    expect(exported.flushCount).toBeGreaterThan(0);
    expect(lines).toEqual([]);
  });

  // Without WRITE_ZEROES this hangs now and then: nbdcopy then clears ranges of its destination by synchronous
  // writes, in the middle of a callback.
  test('nbdcopy copies from one export to another', async () => {
    const content = diskContent(8 * MIB);
    const source = await serve(filledExport(content, { readOnly: true }));
    const target = new MemoryExport(content.length);
    const destination = await serve(target);

    await client('nbdcopy', source.server.uri, destination.server.uri);

    expect(content.equals(target.bytes)).toBe(true);
  });

  test('an export that fails shows its words in the client', async () => {
    const exported = new MemoryExport(MIB);
    exported.read = () => Promise.reject(new Error('the L2 table is damaged'));
    const { server, lines } = await serve(exported);
    const file = join(await temporaryFolder(), 'copy');

    await expect(client('nbdcopy', server.uri, file)).rejects.toMatchObject({ code: 1 });
    // nbdcopy has several connections: any of them may be the first to fail.
    expect(lines[0]).toMatch(/^nbd: client \d+: a request failed: the L2 table is damaged$/);
  });
});
