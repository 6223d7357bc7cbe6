/** The control socket without a device: what is asked, what is answered, and who may ask. */
import { stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CorralError } from '../../host/errors.js';
import { askDevice, hasControl } from '../../host/node/control-client.js';
import { parseRequest, snapshotFromJson, snapshotToJson } from '../../host/node/control-protocol.js';
import { type ControlServer, serveControl } from '../../host/node/control-server.js';
import { meterMemory, readMeter } from '../../host/node/request-meter.js';
import { temporaryFolder } from '../temporary-folder.js';

const SNAPSHOT = {
  id: '1',
  name: 'ünïcode',
  idBytes: new TextEncoder().encode('1'),
  nameBytes: new TextEncoder().encode('ünïcode'),
  date: new Date(1_700_000_000_123),
  nanoseconds: 123_456_789,
  diskSize: 2 ** 40,
  vmStateSize: 0,
  vmClock: 2n ** 63n,
  icount: undefined,
};

const BITMAP = {
  name: 'backup',
  nameBytes: new TextEncoder().encode('backup'),
  granularity: 65536,
  enabled: true,
  inconsistent: false,
};

function fakeDevice() {
  return {
    id: 7,
    node: '/dev/ublkb7',
    size: 4096,
    diskSize: 4608,
    features: { dataPath: 'plain' },
    snapshots: vi.fn(async () => [SNAPSHOT]),
    createSnapshot: vi.fn(async () => {}),
    deleteSnapshot: vi.fn(async () => {}),
    resize: vi.fn(async (size: number) => ({ size, deviceSize: size })),
    flush: vi.fn(async () => {}),
    statistics: vi.fn(async () => ({ cacheHits: 3, cacheMisses: 1, cacheEvictions: 0, cacheSize: 8192 })),
    queueDepth: 128,
    requests: vi.fn(() => readMeter(meterMemory())),
    bitmaps: vi.fn(async () => [BITMAP]),
    changeBitmap: vi.fn(async () => {}),
    commit: vi.fn(async () => {}),
    setCacheSize: vi.fn(async (_size: number) => {}),
    info: { clusterSize: 65_536, extendedL2: false },
    stop: vi.fn(async () => {}),
  };
}

let before: string | undefined;
let device: ReturnType<typeof fakeDevice>;
let server: ControlServer;

beforeEach(async () => {
  before = process.env.CORRAL_RUN_DIR;
  process.env.CORRAL_RUN_DIR = join(temporaryFolder(), 'run');
  device = fakeDevice();
  server = await serveControl(device as unknown as Parameters<typeof serveControl>[0]);
});
afterEach(async () => {
  await server.close();
  if (before === undefined) delete process.env.CORRAL_RUN_DIR;
  else process.env.CORRAL_RUN_DIR = before;
});

/** What comes back for these bytes, until the server ends the connection. */
function converse(bytes: string | Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(server.path, () => socket.end(bytes));
    socket.setEncoding('utf8');
    socket.on('data', (piece: string) => {
      text += piece;
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
  });
}

describe('who serves a device', () => {
  test('is asked for what can be done while it serves', async () => {
    const snapshots = (await askDevice(7, { verb: 'snapshot-list' })) as Record<string, unknown>[];
    await askDevice(7, { verb: 'snapshot-create', name: 'monday' });
    await askDevice(7, { verb: 'snapshot-delete', id: '1', name: 'monday' });
    const resized = await askDevice(7, { verb: 'resize', size: 8192 });
    await askDevice(7, { verb: 'flush' });
    const statistics = await askDevice(7, { verb: 'stat' });
    await askDevice(7, { verb: 'stop', timeout: 5 });

    expect(snapshots.map(snapshotFromJson)).toEqual([SNAPSHOT]);
    expect(device.createSnapshot).toHaveBeenCalledWith({ name: 'monday', icount: 0n });
    expect(device.deleteSnapshot).toHaveBeenCalledWith({ id: '1', name: 'monday' });
    expect(resized).toEqual({ size: 8192, deviceSize: 8192 });
    expect(device.flush).toHaveBeenCalledOnce();
    expect(statistics).toMatchObject({ device: '/dev/ublkb7', size: 4096, diskSize: 4608, engine: { cacheHits: 3 } });
    expect(statistics).toMatchObject({ queueDepth: 128, requests: { inFlight: 0, read: { count: 0, p50: null } } });
    expect(device.stop).toHaveBeenCalledWith({ timeout: 5 });
  });

  test('is asked for the bitmaps of its image, and for a commit', async () => {
    const bitmaps = await askDevice(7, { verb: 'bitmap-list' });
    await askDevice(7, { verb: 'bitmap', action: 'add', bitmap: 'a', granularity: 512, disabled: true });
    await askDevice(7, { verb: 'bitmap', action: 'merge', bitmap: 'a', source: 'backup' });
    await askDevice(7, { verb: 'bitmap', action: 'mark', bitmap: 'a', ranges: [{ offset: 0, length: 512 }] });
    await askDevice(7, { verb: 'bitmap', action: 'clear', bitmap: 'a' });
    await askDevice(7, { verb: 'commit', keep: true });

    expect(bitmaps).toEqual([{ name: 'backup', granularity: 65536, enabled: true, inconsistent: false }]);
    expect(device.changeBitmap.mock.calls).toEqual([
      [{ action: 'add', bitmap: 'a', granularity: 512, disabled: true }],
      [{ action: 'merge', bitmap: 'a', source: 'backup' }],
      [{ action: 'mark', bitmap: 'a', ranges: [{ offset: 0, length: 512 }] }],
      [{ action: 'clear', bitmap: 'a' }],
    ]);
    expect(device.commit).toHaveBeenCalledWith({ keep: true, bytesPerSecond: undefined });
  });

  test('is asked how large its metadata cache is, and for another one', async () => {
    const told = await askDevice(7, { verb: 'cache' });
    const before = device.setCacheSize.mock.calls.length;
    await askDevice(7, { verb: 'cache', size: 2 ** 20 });

    expect(told).toEqual({
      size: 8192,
      entrySize: 4096,
      covers: 2 ** 26,
      wholeDisk: 4096,
      hits: 3,
      misses: 1,
      evictions: 0,
    });
    expect(before).toBe(0);
    expect(device.setCacheSize.mock.calls).toEqual([[2 ** 20]]);
  });

  test.each([
    { action: 'format', bitmap: 'a' },
    { action: 'merge', bitmap: 'a' },
    { action: 'mark', bitmap: 'a', ranges: [{ offset: -1, length: 512 }] },
    { action: 'mark', bitmap: 'a', ranges: {} },
    { action: 'mark', bitmap: 'a', ranges: [null] },
  ])('is not asked for a change of a bitmap that is none: %j', async (change) => {
    await expect(askDevice(7, { verb: 'bitmap', ...change })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });

    expect(device.changeBitmap).not.toHaveBeenCalled();
  });

  test('is the only one who may ask', async () => {
    expect((await stat(server.path)).mode & 0o777).toBe(0o600);
    expect((await stat(join(server.path, '..'))).mode & 0o777).toBe(0o700);
  });

  test('tells why something was not done', async () => {
    device.flush.mockRejectedValueOnce(new CorralError('ERR_NO_SPACE', { path: '/a' }));
    device.stop.mockRejectedValueOnce(new TypeError('a fault'));

    await expect(askDevice(7, { verb: 'flush' })).rejects.toMatchObject({
      code: 'ERR_NO_SPACE',
      message: "'/a': No space left on device",
    });
    await expect(askDevice(7, { verb: 'stop' })).rejects.toMatchObject({ code: 'ERR_INTERNAL', message: 'a fault' });
  });

  test('answers requests of one connection in their order', async () => {
    device.createSnapshot.mockImplementationOnce(() => new Promise((resolve) => void setTimeout(resolve, 50)));

    const text = await converse('{"verb":"snapshot-create","name":"a"}\n{"verb":"resize","size":512}\n');

    expect(text).toBe('{"result":null}\n{"result":{"size":512,"deviceSize":512}}\n');
  });

  test('is gone with its socket', async () => {
    expect(hasControl(7)).toBe(true);
    await server.close();

    expect(hasControl(7)).toBe(false);
    await expect(askDevice(7, { verb: 'flush' })).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
  });

  test('takes the place of one that died', async () => {
    await using second = await serveControl(device as unknown as Parameters<typeof serveControl>[0]);

    expect(await askDevice(7, { verb: 'flush' })).toBe(null);
    expect(second.path).toBe(server.path);
  });
});

describe('what is no request', () => {
  test.each([
    '',
    '{',
    'null',
    '[]',
    '"flush"',
    '{}',
    '{"verb":"format"}',
    '{"verb":"toString"}',
    '{"verb":"__proto__"}',
    '{"verb":"resize"}',
    '{"verb":"resize","size":"1"}',
    '{"verb":"cache","size":"1M"}',
    '{"verb":"snapshot-create","name":null}',
    '{"verb":"snapshot-delete","name":"a"}',
    '{"verb":"flush","force":true}',
  ])('%s is answered with an error, and does nothing', async (line) => {
    expect(() => parseRequest(line)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));

    const answer = JSON.parse(await converse(`${line}\n`)) as { error: { code: string } };

    expect(answer.error.code).toBe('ERR_INVALID_ARGUMENT');
    expect(device.flush).not.toHaveBeenCalled();
    expect(device.resize).not.toHaveBeenCalled();
  });

  test('and has no end, costs the connection', async () => {
    expect(await converse('x'.repeat(200_000))).toBe('');

    expect(await askDevice(7, { verb: 'flush' })).toBe(null);
  });

  test('and is not even text, is answered all the same', async () => {
    expect(await converse(Uint8Array.of(0xff, 0xfe, 0x00, 0x0a))).toContain('ERR_INVALID_ARGUMENT');
  });
});

test('a snapshot survives JSON with all that numbers cannot hold', () => {
  const snapshot = { ...SNAPSHOT, icount: 2n ** 60n };

  expect(snapshotFromJson(JSON.parse(JSON.stringify(snapshotToJson(snapshot))))).toEqual(snapshot);
});
