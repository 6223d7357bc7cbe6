/** What is shown, as the part of the address behind `#`: it can be kept, and sent to somebody who has the same file. */

import type { Space, State } from '../protocol.js';

export const VIEW_NAMES = ['summary', 'map', 'hex', 'files', 'snapshots', 'bitmaps', 'export'] as const;
export type ViewName = (typeof VIEW_NAMES)[number];

export interface Place {
  readonly view: ViewName;
  readonly state: State;
  readonly space: Space;
  /** Bytes; undefined: from the start. */
  readonly offset: number | undefined;
  /** The stretch that a picture shows; undefined: everything. */
  readonly from: number | undefined;
  readonly to: number | undefined;
  readonly partition: number | undefined;
  readonly path: string | undefined;
}

export const START: Place = {
  view: 'summary',
  state: undefined,
  space: 'guest',
  offset: undefined,
  from: undefined,
  to: undefined,
  partition: undefined,
  path: undefined,
};

/** What does not make sense is left out. */
export function parsePlace(hash: string): Place {
  const fields = new URLSearchParams(hash.replace(/^#/, ''));
  const number = (name: string): number | undefined => {
    const text = fields.get(name);
    const value = text === null || text === '' ? Number.NaN : Number(text);
    return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  };
  const view = VIEW_NAMES.find((name) => name === fields.get('view')) ?? 'summary';
  return {
    view,
    state: number('snapshot'),
    space: fields.get('space') === 'host' ? 'host' : 'guest',
    offset: number('offset'),
    from: number('from'),
    to: number('to'),
    partition: number('partition'),
    path: fields.get('path') ?? undefined,
  };
}

/** Only what differs from the start. Offsets stand as they do elsewhere: in hexadecimal. */
export function formatPlace({ view, state, space, offset, from, to, partition, path }: Place): string {
  const fields = new URLSearchParams({ view });
  const put = (name: string, value: number | undefined, hex = true): void => {
    if (value !== undefined) fields.set(name, hex ? `0x${value.toString(16)}` : String(value));
  };
  put('snapshot', state, false);
  if (space === 'host') fields.set('space', space);
  put('offset', offset);
  put('from', from);
  put('to', to);
  put('partition', partition, false);
  if (path !== undefined) fields.set('path', path);
  return `#${fields.toString()}`;
}
