/** Rules and breaks of the error injector, without an image. */

import { describe, expect, test } from 'vitest';
import { FaultFile } from '../../host/fault-file.js';
import { FaultInjector } from '../../host/fault-injector.js';
import { type FaultRule, parseFaultRules, takeFaultRules } from '../../host/fault-rules.js';
import { MemoryFile } from '../../host/memory-file.js';

function rawFile(rules: readonly FaultRule[]): FaultFile {
  return new FaultFile(new MemoryFile(new Uint8Array(4096)), new FaultInjector(rules), 'raw');
}

function rules(...lines: string[]): FaultRule[] {
  return parseFaultRules(lines.join('\n'));
}

const SECTOR = new Uint8Array(512);

describe('a rule', () => {
  test('makes every request fail from its event on', async () => {
    const file = rawFile(rules('[inject-error]', 'event = "write_aio"', 'errno = "28"'));

    await file.read(0, new Uint8Array(512));
    await expect(file.write(0, [SECTOR])).rejects.toMatchObject({ errno: 28, code: 'ENOSPC' });
    await expect(file.read(0, new Uint8Array(512))).rejects.toMatchObject({ errno: 28 });
  });

  test('with once fails one request only', async () => {
    const file = rawFile(rules('[inject-error]', 'event = "write_aio"', 'once = "on"'));

    await expect(file.write(0, [SECTOR])).rejects.toMatchObject({ errno: 5, code: 'EIO' });
    await file.write(0, [SECTOR]);
  });

  test('with a sector fails requests that touch it', async () => {
    const file = rawFile(rules('[inject-error]', 'event = "none"', 'sector = "2"'));

    await file.write(0, [SECTOR, SECTOR]);
    await expect(file.write(512, [SECTOR, SECTOR])).rejects.toMatchObject({ errno: 5 });
    await file.write(1536, [SECTOR]);
    await file.flush();
  });

  test('does not let a write that fails reach the file', async () => {
    const inner = new MemoryFile(new Uint8Array(512));
    const file = new FaultFile(inner, new FaultInjector(rules('[inject-error]', 'event = "none"')), 'raw');

    await expect(file.write(0, [new Uint8Array(512).fill(1)])).rejects.toThrow();

    expect(inner.contents()).toEqual(new Uint8Array(512));
  });

  test('of a state waits for it', async () => {
    const file = rawFile(
      rules(
        '[inject-error]',
        'event = "read_aio"',
        'state = "2"',
        '[set-state]',
        'event = "write_aio"',
        'state = "1"',
        'new_state = "2"',
      ),
    );

    await file.read(0, new Uint8Array(512));
    await file.write(0, [SECTOR]);
    await expect(file.read(0, new Uint8Array(512))).rejects.toMatchObject({ errno: 5 });
  });

  test('among options is taken out of them', () => {
    const options = new Map([
      ['inject-error.0.event', 'read_aio'],
      ['inject-error.0.errno', '7'],
      ['other', '1'],
    ]);

    expect(takeFaultRules(options)).toMatchObject([{ action: 'inject-error', event: 'read_aio', errno: 7 }]);
    expect([...options.keys()]).toEqual(['other']);
  });
});

describe('a break', () => {
  test('holds one request until it is resumed, and others pass', async () => {
    const changes: string[] = [];
    const injector = new FaultInjector([], { onChange: (what, tag) => changes.push(`${what} ${tag}`) });
    const inner = new MemoryFile(new Uint8Array(1024));
    const file = new FaultFile(inner, injector, 'raw');
    injector.break('write_aio', 'A');

    const held = file.write(0, [new Uint8Array(512).fill(1)]);
    await injector.untilSuspended('A');
    await file.write(512, [new Uint8Array(512).fill(2)]);
    const before = inner.contents()[0];
    injector.resume('A');
    await held;

    expect([before, inner.contents()[0], inner.contents()[512]]).toEqual([0, 1, 2]);
    expect(changes).toEqual(['suspended A', 'resuming A']);
  });

  test('that is removed lets its request go on', async () => {
    const injector = new FaultInjector([]);
    const file = new FaultFile(new MemoryFile(), injector, 'raw');
    injector.break('write_aio', 'A');
    const held = file.write(0, [SECTOR]);
    await injector.untilSuspended('A');

    expect(injector.removeBreak('A')).toBe(false);
    await held;
    expect(injector.isSuspended('A')).toBe(false);
  });
});
