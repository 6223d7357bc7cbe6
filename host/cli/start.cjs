#!/usr/bin/env node
/**
 * Starts the program that lies beside this file; for `corral info` one with that verb alone, which is read in less time. What V8 made of it was kept at the build, for the version of Node that built
 * it: reading that takes a tenth of the time of reading the program. Other versions keep it themselves, where they can.
 */
'use strict';

const { existsSync, readFileSync } = require('node:fs');

const name = process.argv[2] === 'info' && existsSync(`${__dirname}/info.cjs`) ? 'info' : 'program';
const program = `${__dirname}/${name}.cjs`;
const cache = `${__dirname}/${name}.${process.version}-${process.arch}.cache`;

if (existsSync(cache)) {
  const { Script } = require('node:vm');
  // ASCII, in the function that Node puts around a module (`module.wrap`, which takes half a millisecond to load). What does not
  // fit the text is left aside by V8, which then reads the program.
  const text = `(function (exports, require, module, __filename, __dirname) { ${readFileSync(program, 'latin1')}\n});`;
  const script = new Script(text, { filename: program, cachedData: readFileSync(cache) });
  script.runInThisContext().call(exports, exports, require, module, program, __dirname);
} else {
  // From Node 22.8 on.
  require('node:module').enableCompileCache?.();
  require(program);
}
