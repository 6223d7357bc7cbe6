// Starts run.ts by hand: Node 20 does not read TypeScript, and the tests are not part of the build.
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const here = new URL('run.ts', import.meta.url);

const { outputFiles } = await build({
  entryPoints: [fileURLToPath(here)],
  bundle: true,
  platform: 'node',
  format: 'esm',
  write: false,
  logLevel: 'error',
  // The sources find their neighbours by their own place, which all of them share.
  define: { 'import.meta.url': JSON.stringify(pathToFileURL(fileURLToPath(here)).href) },
});
const { main } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`);
process.exitCode = await main(process.argv.slice(2));
