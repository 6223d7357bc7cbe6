#!/usr/bin/env node
/** `npm run differential -- --minutes N`: builds what is out of date, then the engine next to QEMU on random sequences. */
import { ensureQemu, pathWithQemu } from './lib/qemu.mjs';
import { runBuilt } from './lib/run-built.mjs';

await ensureQemu();
process.env.PATH = pathWithQemu();
process.exitCode = await runBuilt(['dist/fuzz/differential/main.js', ...process.argv.slice(2)], ['--addon-optional']);
