/** How far it is: QEMU's line, and the bar on a terminal. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { showProgress } from '../../host/cli/progress.js';
import { temporaryFolder } from '../temporary-folder.js';
import { corralHere, MAIN, mustQemuImg, qemuIo } from './run-corral.js';
import { writtenImage } from './sample-images.js';

/** What is printed, by pictures that are written over each other; `columns`: of a terminal. */
function shown(
  columns: number | undefined,
  reports: (report: (done: number, total: number) => void, at: (time: number) => void) => void,
): string[] {
  let printed = '';
  let time = 0;
  const print = (text: string): void => {
    printed += text;
  };
  const terminal = { program: 'corral', columns, print, complain: print, note: print };
  const progress = showProgress(terminal, 'people', () => time);
  reports(progress.report, (next) => {
    time = next;
  });
  progress.finish();
  return printed.split('\r');
}

describe('progress', () => {
  test('without a terminal is a line of percents, at most one for each percent', () => {
    const lines = shown(undefined, (report) => {
      for (let done = 0; done <= 1000; done++) report(done, 1000);
    });

    expect(lines.slice(0, 2)).toEqual(['    (0.00/100%)', '    (1.00/100%)']);
    expect(lines.slice(-2)).toEqual(['    (100.00/100%)', '\n']);
    expect(lines.length).toBeGreaterThan(90);
    expect(lines.length).toBeLessThanOrEqual(102);
  });

  test('on a terminal is a bar with the time that is left, and at the end the time that it took', () => {
    const lines = shown(80, (report, at) => {
      at(30_000);
      report(1, 4);
      at(30_010);
      report(2, 4);
      at(7_200_000);
      report(3, 4);
      at(7_261_000);
    });

    expect(lines).toEqual([
      `    [${'.'.repeat(40)}]   0.0%      --:--`,
      `    [${'#'.repeat(10)}${'.'.repeat(30)}]  25.0%      01:30`,
      `    [${'#'.repeat(30)}${'.'.repeat(10)}]  75.0%      40:00`,
      `    [${'#'.repeat(40)}] 100.0%   02:01:01`,
      '\n',
    ]);
  });

  test('never says 100 before it is complete, and says it once', () => {
    const lines = shown(80, (report, at) => {
      at(1000);
      report(9_999_999, 10_000_000);
      at(2000);
      report(10_000_000, 10_000_000);
    });

    expect(lines.filter((line) => line.includes(' 99.9%'))).toHaveLength(1);
    expect(lines.filter((line) => line.includes('100.0%'))).toHaveLength(1);
  });

  test.each([30, 50, 200])(
    'every picture of a bar is as long as the one before, and shorter than a line of %i',
    (columns) => {
      const lines = shown(columns, (report, at) => {
        for (let done = 0; done < 100; done++) {
          at(done * done * 100_000);
          report(done, 100);
        }
      });

      const lengths = new Set(lines.slice(0, -1).map((line) => line.length));
      expect(lengths.size).toBe(1);
      expect([...lengths][0]).toBeLessThan(columns);
      expect(lines.length).toBeGreaterThan(90);
    },
  );

  test('where a bar has no room is the line of percents', () => {
    expect(shown(20, () => {})).toEqual(['    (0.00/100%)', '    (100.00/100%)', '\n']);
  });
});

describe('for programs', () => {
  test('are lines of JSON, the last of which says that all is done', async () => {
    const image = writtenImage();

    const { status, stdout, stderr } = await corralHere('convert', '--progress=json', image, `${image}.raw`);

    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, number>);
    expect(lines.at(-1)).toEqual({ transferred: 10 << 20, size: 10 << 20, elapsed: expect.any(Number) });
    for (const line of lines) expect(Object.keys(line)).toEqual(['transferred', 'size', 'elapsed']);
  });

  test.each([
    ['rebase', (image: string) => ['rebase', '--progress=json', '-b', '', overlayOf(image)]],
    ['commit', (image: string) => ['commit', '--progress=json', overlayOf(image)]],
    ['compare', (image: string) => ['compare', '--progress=json', image, image]],
    ['checksum', (image: string) => ['checksum', '--progress=json', image]],
  ])('%s prints them, too', async (_, args) => {
    const { status, stdout } = await corralHere(...args(writtenImage()));

    expect(status).toBe(0);
    const lines = stdout.split('\n').filter((line) => line.startsWith('{'));
    expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ transferred: 10 << 20, size: 10 << 20 });
  });

  test('-q keeps them back, and another kind is refused', async () => {
    const image = writtenImage();

    expect(await corralHere('convert', '-q', '--progress=json', image, `${image}.raw`)).toMatchObject({ stdout: '' });
    expect(await corralHere('convert', '--progress=xml', image, `${image}.xml`)).toMatchObject({
      status: 1,
      stderr: "corral: --progress expects 'json' not 'xml'\nTry 'corral convert --help' for more info\n",
    });
  });

  /** An image over this one, with some data of its own. */
  function overlayOf(image: string): string {
    const overlay = `${image}.overlay`;
    mustQemuImg('create', '-q', '-f', 'qcow2', '-b', image, '-F', 'qcow2', overlay);
    qemuIo(overlay, 'write -P 9 4M 64k');
    return overlay;
  }
});

describe('corral convert -p', () => {
  /** Runs it on a terminal of so many columns, and gives back what that shows. */
  function onTerminal(columns: number): string {
    const command = `stty cols ${columns}; exec "$NODE" "$MAIN" convert -p "$SOURCE" "$TARGET"`;
    const { status, stdout, stderr } = spawnSync('script', ['-qec', command, '/dev/null'], {
      encoding: 'utf8',
      timeout: 30_000,
      env: {
        ...process.env,
        NODE: process.execPath,
        MAIN,
        SOURCE: writtenImage(),
        TARGET: join(temporaryFolder(), 'copy.raw'),
      },
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    return stdout;
  }

  test('shows a bar on a terminal', () => {
    expect(onTerminal(100)).toMatch(
      /^( {4}\[\.*\] {3}0\.0% {6}--:--\r)( {4}\[#*\.*\] .*\r)* {4}\[#{40}\] 100\.0% {6}00:0\d\r\r\n$/,
    );
  });

  test('shows percents on a terminal without room', () => {
    expect(onTerminal(24)).toMatch(/^ {4}\(0\.00\/100%\)\r.*\(100\.00\/100%\)\r\r\n$/s);
  });
});
