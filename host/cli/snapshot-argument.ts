/** How the command line names an internal snapshot. */

import type { SnapshotSelection } from '../snapshot-record.js';
import { optionList } from './arguments.js';
import { CommandError } from './output.js';

/** `snapshot.id=1,snapshot.name=x` names both; any other text is an id, or else a name. */
export function snapshotArgument(text: string): SnapshotSelection | string {
  if (!text.startsWith('snapshot.')) return text;
  const options = optionList([text]);
  const unknown = [...options.keys()].find((name) => name !== 'snapshot.id' && name !== 'snapshot.name');
  if (unknown !== undefined) {
    const earlier = [`Invalid parameter '${unknown}'`];
    throw new CommandError(`Failed in parsing snapshot param '${text}'`, 1, { earlier });
  }
  return { id: options.get('snapshot.id'), name: options.get('snapshot.name') };
}
