/** Runs PROGRAM with ARGS as host/cli/start.cjs does, and writes what V8 made of it to CACHE: PROGRAM CACHE ARGS... */
'use strict';

const { readFileSync, writeFileSync } = require('node:fs');
const { createRequire, wrap } = require('node:module');
const { dirname, resolve } = require('node:path');
const v8 = require('node:v8');
const { Script } = require('node:vm');

// What is kept under other flags is no good for a start without them.
v8.setFlagsFromString = () => {};

const [program, cache] = process.argv.splice(2, 2).map((path) => resolve(path));
process.argv[1] = program;
const script = new Script(wrap(readFileSync(program, 'latin1')), { filename: program });
process.on('exit', () => writeFileSync(cache, script.createCachedData()));
script.runInThisContext().call(exports, exports, createRequire(program), module, program, dirname(program));
