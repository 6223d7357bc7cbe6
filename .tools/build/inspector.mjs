/**
 * The inspector page: dist/inspector/index.html and url.html, each a single file that needs nothing else, so that it works
 * from any server, from any path, and from a disk.
 *
 * The worker's program, with the core in it, is a text in the page's program: the page may connect to nothing, and a
 * worker that is made of a `blob:` inherits that policy, where one from an address would not.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { root, sourceFiles } from '../lib/repository.mjs';
import { StageError } from '../lib/stage.mjs';

const SOURCE = 'browser/inspector';
const OUTPUT = 'dist/inspector';
const CORE = 'dist/corral.wasm';

/** Each page, and what it may connect to. */
const PAGES = [
  { name: 'index.html', mode: 'files', connect: "'none'" },
  { name: 'url.html', mode: 'url', connect: 'https: http:' },
];

/** @type {import('esbuild').BuildOptions} */
const COMMON = {
  absWorkingDir: root,
  bundle: true,
  minify: true,
  platform: 'browser',
  target: 'es2022',
  format: 'iife',
  write: false,
  charset: 'utf8',
  logLevel: 'silent',
};

/** Needs the core of this build: it runs after the core's stage. @returns {import('../lib/stage.mjs').Stage} */
export function inspectorStage() {
  return {
    name: 'inspector',
    inputs: [
      'package-lock.json',
      '.tools/build/inspector.mjs',
      ...sourceFiles([SOURCE], ['.html', '.css']),
      ...sourceFiles(['assembly', 'browser', 'host'], ['.ts']).filter((path) => !/^host\/(node|nbd|cli)\//.test(path)),
    ],
    outputs: PAGES.map(({ name }) => join(OUTPUT, name)),
    async run() {
      const core = readFileSync(join(root, CORE)).toString('base64');
      const worker = await bundled('engine/worker.ts', { CORE_BASE64: JSON.stringify(core) });
      const page = await bundled('page/main.ts', { WORKER_SOURCE: JSON.stringify(worker) });
      const style = await bundled('page/style.css', {});
      const template = readFileSync(join(root, SOURCE, 'page.html'), 'utf8');
      mkdirSync(join(root, OUTPUT), { recursive: true });
      for (const { name, mode, connect } of PAGES) {
        const html = template
          .replace('%MODE%', mode)
          .replace('%POLICY%', policy(page, style, connect))
          .replace(/<style>[^<]*<\/style>/, () => `<style>${style}</style>`)
          .replace(/<script>[^<]*<\/script>/, () => `<script>${page}</script>`);
        writeFileSync(join(root, OUTPUT, name), html);
      }
    },
  };
}

/**
 * @param {string} entry
 * @param {Record<string, string>} define
 * @returns {Promise<string>}
 */
async function bundled(entry, define) {
  try {
    const { outputFiles } = await build({ ...COMMON, entryPoints: [join(root, SOURCE, entry)], define });
    const text = outputFiles?.[0]?.text.trim() ?? '';
    // It stands in an element of the page: nothing in it may end that, or begin another.
    const end = /<\/(?:script|style)|<!--/i.exec(text);
    if (end !== null) throw new Error(`${entry}: '${end[0]}' would end its element of the page`);
    return text;
  } catch (error) {
    throw new StageError(/** @type {Error} */ (error).message);
  }
}

/**
 * Only this script, only this style; the worker inherits it all.
 *
 * @param {string} script
 * @param {string} style
 * @param {string} connect
 */
function policy(script, style, connect) {
  return [
    "default-src 'none'",
    `script-src ${hash(script)} 'wasm-unsafe-eval'`,
    `style-src ${hash(style)}`,
    'worker-src blob:',
    'img-src blob: data:',
    `connect-src ${connect}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
}

/** @param {string} text */
function hash(text) {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}
