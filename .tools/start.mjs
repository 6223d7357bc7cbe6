#!/usr/bin/env node
/**
 * `npm start -- [IMAGE] [options]`: builds what is missing or out of date, then `corral serve`.
 *
 * Signals reach the server, and its exit status is this command's.
 */
import { runBuilt } from './lib/run-built.mjs';

process.exitCode = await runBuilt(['dist/host/cli/main.js', 'serve', ...process.argv.slice(2)], ['--addon-optional']);
