/** The core: asc must accept all of it, without a warning, and nothing but the block import may leave the sandbox. */
import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import asc from 'assemblyscript/asc';
import { root, sourceFiles } from '../lib/repository.mjs';
import { CheckError, requireSeen } from './step.mjs';

const IMPORTER = 'assembly/block.ts';
const IMPORT_MODULE = 'block';

/** Compiles the debug target in memory. */
export async function checkCore() {
  /** @type {Set<string>} */
  const seen = new Set();
  /** @type {Uint8Array | undefined} */
  let wasm;
  const messages = asc.createMemoryStream();
  const { error } = await asc.main(
    ['--config', 'asconfig.json', '--target', 'debug', '--outFile', 'core.wasm', '--noColors', '--baseDir', root],
    {
      stdout: messages,
      stderr: messages,
      readFile: (name, folder) => {
        const path = join(folder, name);
        try {
          const text = readFileSync(path, 'utf8');
          seen.add(relative(root, path));
          return text;
        } catch {
          return null; // asc tries several places for each import
        }
      },
      writeFile: (name, contents) => {
        if (name.endsWith('.wasm')) wasm = /** @type {Uint8Array} */ (contents);
      },
    },
  );
  const said = messages.toString();
  if (error !== null || said.includes('WARNING')) throw new CheckError(said || String(error));

  const sources = sourceFiles(['assembly'], ['.ts']);
  requireSeen('asc', seen, sources);
  if (wasm === undefined) throw new CheckError('asc wrote no module');
  const foreign = WebAssembly.Module.imports(new WebAssembly.Module(new Uint8Array(wasm))).filter(
    ({ module }) => module !== IMPORT_MODULE,
  );
  if (foreign.length > 0) {
    throw new CheckError(`the core imports ${foreign.map(({ module, name }) => `${module}.${name}`).join(', ')}`);
  }
  return `${sources.length} files, ${wasm.length} bytes with assertions`;
}

/** Only one file of the core declares imports. */
export async function checkImportDeclarations() {
  const sources = sourceFiles(['assembly'], ['.ts']);
  const found = sources.flatMap((path) =>
    readFileSync(join(root, path), 'utf8')
      .split('\n')
      .flatMap((line, index) =>
        /^\s*(export\s+)?declare\b|^\s*@external\b/.test(line)
          ? [{ path, place: `${path}:${index + 1}: ${line.trim()}` }]
          : [],
      ),
  );
  const elsewhere = found.filter(({ path }) => path !== IMPORTER);
  if (elsewhere.length > 0) {
    throw new CheckError(`only ${IMPORTER} may declare imports:\n${elsewhere.map(({ place }) => place).join('\n')}`);
  }
  if (found.length === 0) throw new CheckError(`${IMPORTER} declares no import: this check looks for the wrong words`);
  return `${found.length} imports in ${sources.length} files`;
}
