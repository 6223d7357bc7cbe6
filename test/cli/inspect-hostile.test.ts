import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { type InspectReport, inspect, MemoryFile } from '../../host/index.js';
import { loadCore } from '../../host/node/index.js';
import { chooseSeed } from '../random.js';
import { temporaryFolder } from '../temporary-folder.js';
import {
  type HostileImage,
  imageWithSnapshot,
  randomImages,
  truncated,
  validImage,
  wrongExtensions,
  wrongFields,
  wrongTables,
} from './hostile-images.js';
import { qemuImg } from './run-corral.js';
import { sourceOf } from './untrusted-images.js';

const SEED = chooseSeed();

let version2: Buffer;
let version3: Buffer;
let snapshot: Buffer;

beforeAll(() => {
  version2 = validImage('0.10');
  version3 = validImage('1.1');
  snapshot = imageWithSnapshot();
});

/** Made when the tests run: they need the valid images. */
const KINDS: Record<string, () => HostileImage[]> = {
  'cut off': () => [...truncated(version2), ...truncated(version3), ...truncated(snapshot)],
  'with wrong fields': () => [...wrongFields(version2), ...wrongFields(version3), ...wrongFields(snapshot)],
  'with wrong extensions': () => wrongExtensions(version3),
  'with wrong tables': () => [...wrongTables(version3), ...wrongTables(snapshot)],
  'with random bytes': () => [...randomImages(version3, SEED, 400), ...randomImages(snapshot, SEED + 1, 200)],
};

function look(bytes: Buffer): Promise<InspectReport> {
  return inspect(new MemoryFile(Uint8Array.from(bytes), true), {
    core: loadCore(),
    policy: 'forensic',
    depth: 'full',
    limits: { maxTime: 60_000 },
  });
}

describe('no image makes the inspector err, and QEMU finds no fault with what it accepts:', () => {
  test.each(Object.entries(KINDS))(
    'images %s',
    async (kind, make) => {
      const path = join(temporaryFolder(), 'image');
      const complaints: string[] = [];
      let accepted = 0;

      for (const { name, bytes } of make()) {
        const { verdict, format, references, encryption } = await look(bytes);
        if (verdict.failed.includes('inspect.internal-error')) complaints.push(`${name}: internal error`);
        if (verdict.result !== 'accept') continue;
        accepted++;
        writeFileSync(path, bytes);
        const opened = qemuImg(['info', '-f', format.name, path]);
        if (opened.status !== 0) complaints.push(`${name}: ${opened.stderr}`);
        // What the image names is not there: no check gets beyond that.
        if (format.name !== 'qcow2' || references.length > 0) continue;
        const checked = qemuImg(['check', ...sourceOf(path, encryption?.method)]);
        // 3: leaks only.
        if (checked.status !== 0 && checked.status !== 3)
          complaints.push(`${name}: ${checked.stdout}${checked.stderr}`);
      }

      expect(complaints).toEqual([]);
      // Whatever is wrong with an extension is a finding.
      expect(accepted > 0).toBe(kind !== 'with wrong extensions');
    },
    240_000,
  );
});
