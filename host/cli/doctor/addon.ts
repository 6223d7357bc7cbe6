/** The native addon: whether it is there and fits. */

import { CorralError } from '../../errors.js';
import { reasonOf } from '../output.js';
import type { Finding } from './finding.js';
import type { HostView } from './host-view.js';

/** What every finding says that needs the addon, where it is missing. */
export const NEEDS_ADDON = 'needs the addon';

/** Without it there are no block devices, image locks and holes. */
export function examineAddon(host: HostView): Finding {
  const about = 'native addon';
  if (host.platform !== 'linux') {
    return { id: 'addon', status: 'missing', about, found: `there is none for ${host.platform}, only for Linux` };
  }
  try {
    host.addon();
    return { id: 'addon', status: 'ok', about, found: 'loaded' };
  } catch (error) {
    if (!(error instanceof CorralError)) throw error;
    return {
      id: 'addon',
      status: 'missing',
      about,
      found: reasonOf(error),
      fix: 'apt-get install python3 make g++, then npm run build',
    };
  }
}
