/** What may be said of a block device, and what becomes of it. */
import { describe, expect, test } from 'vitest';
import {
  chooseFeatures,
  choosePaths,
  DATA_PATHS,
  featureNames,
  featuresOf,
  isGranted,
  withPath,
} from '../../host/node/ublk-features.js';
import { checkOptions, type UblkDeviceOptions } from '../../host/node/ublk-options.js';
import { deviceSizeOf, parametersOf } from '../../host/node/ublk-parameters.js';

const ZERO_COPY = 1;
const USER_COPY = 2 ** 7;
const AUTO_BUFFERS = 2 ** 11;
const IOCTL_ENCODED = 2 ** 6;
const USER_RECOVERY = 2 ** 3;
const UNPRIVILEGED = 2 ** 5;
const REISSUE = 2 ** 4;
const UPDATE_SIZE = 2 ** 10;
const FAIL_IO = 2 ** 9;
const QUIESCE = 2 ** 12;
/** A bit that no driver of today has, above what an int32 holds. */
const FUTURE = 2 ** 40;

function facts(virtualSize: number, clusterSize = 65536) {
  return { virtualSize, clusterSize } as Parameters<typeof deviceSizeOf>[0];
}

describe('options of a block device', () => {
  test.each<[string, UblkDeviceOptions]>([
    ['a queue depth of 0', { queueDepth: 0 }],
    ['a queue depth beyond the limit', { queueDepth: 4097 }],
    ['no queue', { queues: 0 }],
    ['more queues than processors', { queues: 5000 }],
    ['a data path that is none', { dataPath: 'magic' as 'auto' }],
    ['a request of half a page', { maxIoBytes: 2048 }],
    ['a request beyond 32 MiB', { maxIoBytes: (32 << 20) + 4096 }],
    ['blocks of 1024 bytes', { blockSize: 1024 }],
    ['no helper jobs', { helperJobs: 0 }],
    ['a number below 0', { id: -1 }],
    ['a number that is none', { id: 0.5 }],
  ])('%s is refused', (_what, options) => {
    expect(() => checkOptions(options)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
  });

  test('what is left out has its default, what is undefined too', () => {
    expect(checkOptions({ queueDepth: undefined, cache: undefined })).toMatchObject({
      readOnly: false,
      queueDepth: 128,
      maxIoBytes: 524288,
      blockSize: 512,
      cache: 'writeback',
      discard: 'unmap',
      recovery: 'off',
    });
  });
});

describe('the block device of an image', () => {
  test('blocks of 512 bytes hide what is no whole block, blocks of 4096 are refused then', () => {
    expect(deviceSizeOf(facts(1_000_000), checkOptions({}))).toBe(999_936);
    expect(deviceSizeOf(facts(8192), checkOptions({ blockSize: 4096 }))).toBe(8192);
    expect(() => deviceSizeOf(facts(8704), checkOptions({ blockSize: 4096 }))).toThrow(/8704 bytes.*4096/);
  });

  test.each([
    [512, 512, 512, 4096],
    [512, 4096, 4096, 4096],
    [65536, 512, 65536, 65536],
    [2 << 20, 4096, 2 << 20, 2 << 20],
  ])('clusters of %i in blocks of %i: discards of %i, best I/O of %i', (clusterSize, blockSize, granularity, ioOpt) => {
    const parameters = parametersOf(
      facts(1 << 30, clusterSize),
      checkOptions({ blockSize }),
      { maxIoBytes: 4096 },
      4096,
    );

    expect(parameters).toMatchObject({
      discardGranularity: granularity,
      ioOpt,
      ioMin: 4096,
      logicalBlockSize: blockSize,
    });
  });

  test.each([
    ['writeback', true],
    ['writethrough', false],
    ['none', true],
    ['directsync', false],
    ['unsafe', false],
  ] as const)('with the cache mode %s the kernel flushes: %s', (cache, flushes) => {
    const parameters = parametersOf(facts(1 << 30), checkOptions({ cache }), { maxIoBytes: 4096 }, 4096);

    expect(parameters).toMatchObject({ volatileCache: flushes, fua: flushes });
  });

  test('one that is only read offers no discards, one that ignores them still takes zeros', () => {
    const of = (options: UblkDeviceOptions) =>
      parametersOf(facts(1 << 30), checkOptions(options), { maxIoBytes: 4096 }, 4096);

    expect(of({ readOnly: true }).discardGranularity).toBe(0);
    expect(of({ discard: 'ignore' })).toMatchObject({ discardGranularity: 65536, discards: false });
  });
});

describe('features of the driver', () => {
  test('commands of the old kind are not enough', () => {
    expect(() => chooseFeatures(USER_RECOVERY, 'off')).toThrow(expect.objectContaining({ code: 'ERR_NO_UBLK' }));
  });

  test('what the driver has is used, what it lacks is not asked for', () => {
    expect(chooseFeatures(IOCTL_ENCODED, 'off')).toMatchObject({ flags: IOCTL_ENCODED, updateSize: false });
    expect(chooseFeatures(IOCTL_ENCODED + UPDATE_SIZE + REISSUE + USER_RECOVERY + FUTURE, 'off')).toMatchObject({
      flags: IOCTL_ENCODED + UPDATE_SIZE,
      updateSize: true,
    });
  });

  test('a recovery that the driver cannot do is refused, and no lesser one taken', () => {
    const features = IOCTL_ENCODED + USER_RECOVERY;

    expect(chooseFeatures(features, 'fail').flags).toBe(IOCTL_ENCODED + USER_RECOVERY);
    expect(() => chooseFeatures(features, 'reissue')).toThrow(expect.objectContaining({ code: 'ERR_UNSUPPORTED' }));
  });

  test('a device that outlives its server can change it where the driver has QUIESCE', () => {
    const features = IOCTL_ENCODED + USER_RECOVERY + FAIL_IO + QUIESCE;

    expect(chooseFeatures(features, 'off')).toMatchObject({ flags: IOCTL_ENCODED, handOver: false });
    expect(chooseFeatures(features, 'fail-all')).toMatchObject({ flags: features, handOver: true });
    expect(chooseFeatures(features - QUIESCE, 'fail')).toMatchObject({ handOver: false });
  });

  test.each([
    ['everything', ZERO_COPY + USER_COPY + AUTO_BUFFERS, ['zero-copy', 'registered', 'user-copy', 'plain']],
    ['no automatic buffers', ZERO_COPY + USER_COPY, ['registered', 'user-copy', 'plain']],
    ['zero copy without user copy', ZERO_COPY + AUTO_BUFFERS, ['plain']],
    ['user copy', USER_COPY, ['user-copy', 'plain']],
    ['nothing', 0, ['plain']],
  ] as const)('data paths are tried from the best one on: of a driver with %s', (_, features, paths) => {
    expect(choosePaths(features, 'auto')).toEqual(paths);
    expect(choosePaths(features, 'auto', { inMemory: true })).toEqual(['plain']);
  });

  test('a data path that is asked for is the only one, or refused', () => {
    expect(choosePaths(ZERO_COPY + USER_COPY + AUTO_BUFFERS, 'user-copy', { inMemory: true })).toEqual(['user-copy']);
    expect(() => choosePaths(USER_COPY, 'zero-copy')).toThrow(expect.objectContaining({ code: 'ERR_UNSUPPORTED' }));
  });

  test('users who are not root get the plain path, and no device that waits for a server', () => {
    const features = IOCTL_ENCODED + UNPRIVILEGED + USER_RECOVERY + USER_COPY;

    expect(chooseFeatures(features, 'off', true).flags).toBe(IOCTL_ENCODED + UNPRIVILEGED);
    expect(choosePaths(features, 'auto', { unprivileged: true })).toEqual(['plain']);
    const refused = (code: string): unknown => expect.objectContaining({ code });
    expect(() => choosePaths(features, 'user-copy', { unprivileged: true })).toThrow(refused('ERR_UNSUPPORTED'));
    expect(() => chooseFeatures(features, 'fail', true)).toThrow(refused('ERR_UNSUPPORTED'));
    expect(() => chooseFeatures(features - UNPRIVILEGED, 'off', true)).toThrow(refused('ERR_PERMISSION'));
  });

  test.each(DATA_PATHS)('a device with the data path %s is known by its flags', (path) => {
    const chosen = withPath(chooseFeatures(IOCTL_ENCODED, 'off'), path);

    expect(featuresOf(chosen.flags).dataPath).toBe(path);
    expect(isGranted(chosen.flags, path)).toBe(true);
  });

  test('what the driver names and does not grant is noticed', () => {
    expect(isGranted(IOCTL_ENCODED + USER_COPY, 'zero-copy')).toBe(false);
  });

  test.each(['off', 'fail', 'fail-all', 'reissue'] as const)(
    'a device of recovery %s is known by its flags',
    (recovery) => {
      const all = IOCTL_ENCODED + USER_RECOVERY + REISSUE + FAIL_IO + QUIESCE + UPDATE_SIZE;
      const chosen = chooseFeatures(all, recovery);

      expect(featuresOf(chosen.flags)).toEqual(chosen);
    },
  );

  test('every bit has a name, or is told by its number', () => {
    expect(featureNames(IOCTL_ENCODED + UPDATE_SIZE + FUTURE)).toEqual(['ioctl-encoded', 'update-size', 'bit-40']);
  });
});
