import { expect, test } from 'vitest';
import { HeaderGuard, headerIn } from '../../host/header-guard.js';
import { MemoryFile } from '../../host/memory-file.js';
import { exportRaw } from '../../host/nbd/raw-export.js';

const latin = (text: string): Uint8Array => Buffer.from(text, 'latin1');

async function guarded() {
  const file = new MemoryFile();
  await file.truncate(4096);
  const guard = new HeaderGuard(file);
  const write = (offset: number, bytes: Uint8Array) => guard.write(offset, bytes, () => file.write(offset, [bytes]));
  const disk = exportRaw(file, { name: 'raw', size: 4096 });
  const sector = new Uint8Array(512);
  return { write, file, disk, sector };
}

test.each([
  ['qcow2', 0, 'QFI\xfb'],
  ['qed', 0, 'QED\0'],
  ['vmdk', 0, 'KDMV'],
  ['vmdk', 0, '# Disk DescriptorFile\n'],
  ['vhdx', 0, 'vhdxfile'],
  ['vpc', 0, 'conectix'],
  ['vdi', 64, '\x7f\x10\xda\xbe'],
  ['parallels', 0, 'WithoutFreeSpace'],
])('a first sector of %s is refused, and not written', async (format, offset, signature) => {
  const { write, file, sector } = await guarded();

  const writing = write(offset, latin(signature));

  await expect(writing).rejects.toMatchObject({ code: 'ERR_PERMISSION', message: expect.stringContaining(format) });
  await file.read(0, sector);
  expect(sector.every((byte) => byte === 0)).toBe(true);
});

test('a header that comes in two writes is refused at the second, whichever that is', async () => {
  const { write, file, sector } = await guarded();

  const outcomes = await Promise.allSettled([write(2, latin('I\xfb')), write(0, latin('QF'))]);

  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
  await file.read(0, sector);
  expect(headerIn(sector)).toBe(undefined);
});

test.each(['writeZeroes', 'discard'] as const)('a header whose last byte a %s would make is refused', async (verb) => {
  const { write, file, disk, sector } = await guarded();
  await write(0, latin('QED?'));

  const zeroing = disk[verb](3, 1, { durable: false, unmap: false });

  await expect(zeroing).rejects.toMatchObject({ code: 'ERR_PERMISSION', message: expect.stringContaining('qed') });
  await file.read(0, sector);
  expect(Buffer.from(sector).toString('latin1', 0, 4)).toBe('QED?');
});

test('zeros elsewhere in the first sector are written', async () => {
  const { write, file, disk, sector } = await guarded();
  await write(0, latin('ABCD'));

  await disk.writeZeroes(2, 2, { durable: false, unmap: false });

  await file.read(0, sector);
  expect(Buffer.from(sector).toString('latin1', 0, 4)).toBe('AB\0\0');
});

test('a header elsewhere, and anything else in the first sector, is written', async () => {
  const { write, file, sector } = await guarded();

  await write(512, latin('QFI\xfb'));
  await write(0, latin('\xeb\x63\x90GRUB'));
  await write(508, latin('QFI\xfbQFI\xfb'));

  await file.read(0, sector);
  expect(Buffer.from(sector).toString('latin1', 3, 7)).toBe('GRUB');
});
