/** The names of images for `attach` and `serve`: what a block device can be told by them. */

import { describe, expect, test } from 'vitest';
import { readDeviceName } from '../../host/cli/device-name.js';

const COMMON = { readOnly: false, cache: 'writethrough', queueDepth: 7 } as const;

describe('the name of a device', () => {
  test('is a path, with the options of all devices', () => {
    expect(readDeviceName('file:a.qcow2', {}, COMMON)).toEqual({ path: 'a.qcow2', options: COMMON });
  });

  test('is a list of options, which go before those of all devices', () => {
    const list =
      'driver=qcow2,file.driver=file,file.filename=a,read-only=on,cache.direct=on,discard=ignore,lazy-refcounts=on,' +
      'discard-no-unref=on,pass-discard-snapshot=off,overlap-check=all,l2-cache-size=2M,refcount-cache-size=1M';

    const { path, options } = readDeviceName(list, { imageOpts: true }, COMMON);

    expect(path).toBe('a');
    expect(options).toEqual({
      ...COMMON,
      format: 'qcow2',
      readOnly: true,
      cache: 'directsync',
      discard: 'ignore',
      lazyRefcounts: true,
      discardNoUnref: true,
      passDiscard: { snapshot: false },
      overlapCheck: { template: 'all' },
      cacheSize: 3 * 1024 * 1024,
    });
  });

  test('is a JSON object', () => {
    const name = 'json:{"driver": "qcow2", "file": {"driver": "file", "filename": "a"}, "cache-size": 65536}';

    expect(readDeviceName(name, {}, {})).toEqual({ path: 'a', options: { format: 'qcow2', cacheSize: 65_536 } });
  });

  test('may be that of a raw disk', () => {
    const { path, options } = readDeviceName('driver=raw,file.filename=a', { imageOpts: true }, {});

    expect({ path, options }).toEqual({ path: 'a', options: { format: 'raw' } });
  });

  test.each([
    ['driver=raw,file.filename=a,offset=512', 'a part of a file'],
    ['driver=qcow2,file.driver=blkdebug,file.image.filename=a', 'error injector'],
    ['driver=qcow2,file.filename=a,backing.file.filename=b', 'continues from what the image names'],
    ['driver=qcow2,file.filename=a,data-file.filename=b', 'has the data file that the image names'],
    ['driver=qcow2,file.filename=a,file.locking=off', 'is always locked'],
    ['driver=qcow2,file.filename=a,force-share=on', 'is always locked'],
    ['driver=qcow2,file.filename=a,l2-cache-entry-size=4k', 'entries of its cache'],
  ])('%s is refused', (list, reason) => {
    expect(() => readDeviceName(list, { imageOpts: true }, {})).toThrow(reason);
  });
});
