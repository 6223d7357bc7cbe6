/** Before any test: what is tested must be what the sources say. */
import { join } from 'node:path';
import { root } from './lib/repository.mjs';
import { attach } from './lib/run.mjs';

export default async function setup() {
  if (process.env.CORRAL_BUILT === 'yes') return; // `npm test` has just done it
  const status = await attach(process.execPath, [join(root, '.tools/build.mjs'), '--quiet'], { stdin: 'ignore' });
  if (status === 1) throw new Error('the build failed, see above');
}
