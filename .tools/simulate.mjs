#!/usr/bin/env node
/** `npm run simulate -- --seeds N`: builds what is out of date, then the simulator. */
import { runBuilt } from './lib/run-built.mjs';

process.exitCode = await runBuilt(['dist/fuzz/simulator/main.js', ...process.argv.slice(2)], ['--addon-optional']);
