/** How the command line names an internal snapshot. */

import type { SnapshotSelection } from '../snapshot-record.js';
import { optionList } from './arguments.js';

/** `snapshot.id=1,snapshot.name=x` names both; any other text is an id, or else a name. */
export function snapshotArgument(text: string): SnapshotSelection | string {
  if (!/^snapshot\.(id|name)=/.test(text)) return text;
  const options = optionList([text]);
  return { id: options.get('snapshot.id'), name: options.get('snapshot.name') };
}
