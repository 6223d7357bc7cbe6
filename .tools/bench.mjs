#!/usr/bin/env node
/** `npm run bench`: builds what is out of date, then measures, next to a QEMU of the version that the bars name. */
import { ensureQemu, pathWithQemu } from './lib/qemu.mjs';
import { runBuilt } from './lib/run-built.mjs';

await ensureQemu();
process.env.PATH = pathWithQemu();
process.exitCode = await runBuilt(['test/bench/run.mjs', ...process.argv.slice(2)]);
