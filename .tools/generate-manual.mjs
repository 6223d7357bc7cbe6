#!/usr/bin/env node
/**
 * Makes the manual pages of the hand-written frames in host/cli/man/ and the tables of the command line.
 *
 *   node .tools/generate-manual.mjs [--check]
 *
 * `--check` writes nothing and exits with 1, naming each stale file.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { cacheFolder, root } from './lib/repository.mjs';
import { escapeRoff, operandText, optionList, paragraph, wrap } from './manual/roff.mjs';

const FOLDER = 'host/cli/man';
const { values: options } = parseArgs({ options: { check: { type: 'boolean' } } });

const tables = await loadTables();
const { options: programOptions, verbs } = await tables.describeProgram();
const version = tables.packageVersion();

const pages = [
  page('corral.1', {
    VERSION: version,
    OPTIONS: optionList(programOptions),
    COMMANDS: verbSections(),
    CREATE: createList(),
  }),
  page('corral-io.1', { VERSION: version, OPTIONS: optionList(tables.SHELL_OPTIONS), COMMANDS: commandList() }),
];
const stale = pages.filter(({ path, text }) => !existsSync(path) || readFileSync(path, 'utf8') !== text);
if (options.check === true) {
  for (const { name } of stale) console.error(`${FOLDER}/${name} is stale: run \`npm run build\` and commit it`);
  process.exitCode = stale.length === 0 ? 0 : 1;
} else {
  for (const { path, text } of stale) writeFileSync(path, text);
}
if (process.exitCode !== 1) console.log(`manual: ${verbs.length} commands in ${pages.length} pages`);

/**
 * The sources are TypeScript, and the manual is made before they are built.
 *
 * @returns {Promise<typeof import('./manual/tables.mjs')>}
 */
async function loadTables() {
  // As deep below the root as what is built: package.json is looked for from there.
  const outfile = join(cacheFolder, 'manual/bundle/tables.mjs');
  await build({
    entryPoints: [join(root, '.tools/manual/tables.mjs')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    logLevel: 'silent',
  });
  return import(pathToFileURL(outfile).href);
}

/**
 * A frame with its parts filled in.
 *
 * @param {string} name
 * @param {Readonly<Record<string, string>>} parts
 */
function page(name, parts) {
  const frame = readFileSync(join(root, FOLDER, `${name}.in`), 'utf8');
  const text = frame.replace(/@([A-Z]+)@/g, (_, part) => {
    const found = parts[part];
    if (found === undefined) throw new Error(`${name}.in wants ${part}, which there is not`);
    return found;
  });
  return {
    name,
    path: join(root, FOLDER, name),
    text: wrap(`.\\" Made of ${name}.in and the tables of options: change those.\n${text}`),
  };
}

function verbSections() {
  return verbs
    .map(({ name, operands, about, options: table }) =>
      [
        `.SS ${escapeRoff(name)}`,
        `\\fBcorral ${escapeRoff(name)}\\fR [\\fIOPTION\\fR]... ${operandText(operands)}`.trimEnd(),
        `.PP\n${paragraph(about)}`,
        optionList(Object.fromEntries(Object.entries(table).filter(([key]) => key !== 'help'))),
      ]
        .filter((part) => part !== '')
        .join('\n'),
    )
    .join('\n');
}

function createList() {
  return tables.CREATE_OPTIONS.map(
    ([name, kind, about]) => `.TP\n\\fB${escapeRoff(name)}\\fR=\\fI${escapeRoff(kind)}\\fR\n${paragraph(about)}`,
  ).join('\n');
}

function commandList() {
  return tables.SHELL_COMMANDS.map(({ name, short, usage, about }) => {
    const names = short === undefined ? [name] : [name, short];
    return (
      `.TP\n${names.map((each) => `\\fB${escapeRoff(each)}\\fR`).join(', ')} ${escapeRoff(usage)}`.trimEnd() +
      `\n${paragraph(about)}`
    );
  }).join('\n');
}
