#!/usr/bin/env node
/** `npm run mutate -- --count N`: builds what is out of date, then the mutation fuzzer, with QEMU's images to start from. */
import { ensureQemu, pathWithQemu } from './lib/qemu.mjs';
import { runBuilt } from './lib/run-built.mjs';

await ensureQemu();
process.env.PATH = pathWithQemu();
process.exitCode = await runBuilt(['dist/fuzz/mutation/main.js', ...process.argv.slice(2)], ['--addon-optional']);
