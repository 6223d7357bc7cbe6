/** Rules of an error injector, as they are written: in a file, or as options. The names are those of QEMU's blkdebug. */

import { CorralError } from './errors.js';

/** Moments at which rules can act; `structure-tracker.ts` says which of them exist here, and when. */
export const FAULT_EVENTS: ReadonlySet<string> = new Set(
  `l1_update l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table l2_load l2_update l2_update_compressed
  l2_alloc_cow_read l2_alloc_write read_aio read_backing_aio read_compressed write_aio write_compressed vmstate_load
  vmstate_save cow_read cow_write reftable_load reftable_grow reftable_update refblock_load refblock_update
  refblock_update_part refblock_alloc refblock_alloc_hookup refblock_alloc_write refblock_alloc_write_blocks
  refblock_alloc_write_table refblock_alloc_switch_table cluster_alloc cluster_alloc_bytes cluster_free flush_to_os
  flush_to_disk pwritev_rmw_head pwritev_rmw_after_head pwritev_rmw_tail pwritev_rmw_after_tail pwritev pwritev_zero
  pwritev_done empty_image_prepare l1_shrink_write_table l1_shrink_free_l2_clusters cor_write cluster_alloc_space none`.split(
    /\s+/,
  ),
);

export type IoType = 'read' | 'write' | 'write-zeroes' | 'discard' | 'flush';
const IO_TYPES: readonly string[] = ['read', 'write', 'write-zeroes', 'discard', 'flush', 'block-status'];

/** From its event on, requests fail. */
export interface InjectError {
  readonly action: 'inject-error';
  readonly event: string;
  /** In this state only; 0: in any. */
  readonly state: number;
  /** Linux's number of the error; 0: no error, which hides other rules. */
  readonly errno: number;
  /** Gone when one request has failed. */
  readonly once: boolean;
  /** Only requests that touch this byte. */
  readonly offset: number | undefined;
  /** Only these requests; undefined: any. */
  readonly ioType: string | undefined;
}

/** At its event the state becomes another one. */
export interface SetState {
  readonly action: 'set-state';
  readonly event: string;
  readonly state: number;
  readonly newState: number;
}

export type FaultRule = InjectError | SetState;

const EIO = 5;
const SECTOR = 512;
const KEYS: Readonly<Record<string, readonly string[]>> = {
  'inject-error': ['event', 'state', 'iotype', 'errno', 'sector', 'once', 'immediately'],
  'set-state': ['event', 'state', 'new_state'],
};

/** Sections in brackets, and in them lines like `event = "write_aio"`. Throws ERR_INVALID_ARGUMENT. */
export function parseFaultRules(text: string): FaultRule[] {
  const sections: { name: string; values: Map<string, string> }[] = [];
  for (const line of text.split('\n').map((untrimmed) => untrimmed.trim())) {
    if (line === '' || line.startsWith('#')) continue;
    const section = /^\[([^\]"]+?)(?:\s+"[^"]*")?\]$/.exec(line)?.[1];
    if (section !== undefined) {
      if (!Object.hasOwn(KEYS, section)) throw invalid(`There is no option group '${section}'`);
      sections.push({ name: section, values: new Map() });
      continue;
    }
    const [, key = '', value = ''] = /^([^\s=]+)\s*=\s*"([^"]*)"$/.exec(line) ?? [];
    const current = sections.at(-1);
    if (current === undefined) throw invalid('no group defined');
    if (key === '') throw invalid('parse error');
    if (!KEYS[current.name]?.includes(key)) throw invalid(`Invalid parameter '${key}'`);
    current.values.set(key, value);
  }
  return sections.map(({ name, values }) => ruleOf(name, values));
}

/**
 * Rules as options: `inject-error.0.event`, `inject-error.0.errno`, `set-state.0.event` and so on; whatever is used is
 * removed from the map. Throws ERR_INVALID_ARGUMENT.
 */
export function takeFaultRules(options: Map<string, string>): FaultRule[] {
  return Object.keys(KEYS).flatMap((name) => {
    const rules: FaultRule[] = [];
    for (let index = 0; ; index++) {
      const values = takeMembers(options, `${name}.${index}.`);
      if (values.size === 0) break;
      for (const key of values.keys()) {
        if (!KEYS[name]?.includes(key)) throw invalid(`[${name}] section doesn't support the option '${key}'`);
      }
      rules.push(ruleOf(name, values));
    }
    const [left] = takeMembers(options, `${name}.`).keys();
    if (left !== undefined) throw invalid(`Unused option '${left}' for [${name}]`);
    return rules;
  });
}

function takeMembers(options: Map<string, string>, prefix: string): Map<string, string> {
  const members = new Map<string, string>();
  for (const [key, value] of options) {
    if (!key.startsWith(prefix)) continue;
    members.set(key.slice(prefix.length), value);
    options.delete(key);
  }
  return members;
}

function ruleOf(name: string, values: ReadonlyMap<string, string>): FaultRule {
  const event = values.get('event');
  if (event === undefined) throw invalid('Missing event name for rule');
  if (!FAULT_EVENTS.has(event)) throw invalid(`invalid parameter value: ${event}`);
  const state = numberOf(values, 'state') ?? 0;
  if (name === 'set-state') return { action: 'set-state', event, state, newState: numberOf(values, 'new_state') ?? 0 };
  const sector = numberOf(values, 'sector');
  const ioType = values.get('iotype');
  if (ioType !== undefined && !IO_TYPES.includes(ioType)) throw invalid(`invalid parameter value: ${ioType}`);
  switchOf(values, 'immediately');
  return {
    action: 'inject-error',
    event,
    state,
    errno: numberOf(values, 'errno') ?? EIO,
    once: switchOf(values, 'once'),
    offset: sector === undefined ? undefined : sector * SECTOR,
    ioType,
  };
}

function numberOf(values: ReadonlyMap<string, string>, key: string): number | undefined {
  const text = values.get(key);
  if (text === undefined) return undefined;
  const number = /^(?:0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw invalid(`Parameter '${key}' expects a number`);
  return number;
}

function switchOf(values: ReadonlyMap<string, string>, key: string): boolean {
  const text = values.get(key) ?? 'off';
  if (text !== 'on' && text !== 'off') throw invalid(`Parameter '${key}' expects 'on' or 'off'`);
  return text === 'on';
}

function invalid(reason: string): CorralError {
  return new CorralError('ERR_INVALID_ARGUMENT', { reason });
}
