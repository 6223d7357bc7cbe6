/** Policies: which formats may be there, how bad each finding is, and from which severity on an image is rejected. */

import { CorralError } from '../errors.js';
import type { FormatName } from './formats.js';
import { FORMAT_NAMES } from './formats.js';
import { RULES, type RuleId, ruleOf, SEVERITIES, type Severity } from './rules.js';

export interface Policy {
  readonly name: string;
  /** Formats that are allowed; `raw` stands for partition tables, too. */
  readonly formats: readonly FormatName[];
  /** The lowest severity that rejects. */
  readonly failOn: Severity;
  /** Where findings are more or less severe than the rule says. */
  readonly severities: Readonly<Partial<Record<RuleId, Severity>>>;
  /** Bytes of a virtual disk at most. */
  readonly maxVirtualSize: number;
}

export type PolicyName = 'upload' | 'strict' | 'openstack' | 'forensic';

const TIB = 2 ** 40;

/** What the format can describe at most is the only limit. */
const NO_LIMIT = Number.MAX_SAFE_INTEGER;

/** An image from a stranger: qcow2 or raw, and nothing in it that names another file. */
const UPLOAD: Policy = {
  name: 'upload',
  formats: ['qcow2', 'raw'],
  failOn: 'high',
  severities: {},
  maxVirtualSize: TIB,
};

/** References are noted, not rejected: somebody wants to know what an image is. Damage is damage. */
const FORENSIC_SEVERITIES: Partial<Record<RuleId, Severity>> = {
  'ref.backing-file': 'info',
  'ref.backing-format-missing': 'info',
  'ref.data-file': 'info',
  'ref.data-file-name-missing': 'low',
  'ref.extent-file': 'info',
  'ref.name-protocol': 'medium',
  'ref.name-absolute': 'info',
  'ref.name-traversal': 'info',
  'ref.name-device': 'medium',
  'ref.name-control-chars': 'medium',
  'ref.name-not-utf8': 'low',
  'crypt.present': 'info',
  'crypt.legacy-aes': 'low',
  'crypt.kdf-cost': 'medium',
  'snap.hidden-state': 'info',
  'snap.vm-state': 'info',
  'size.virtual-limit': 'info',
  'format.raw-fallback': 'info',
  'content.nested-format': 'medium',
};

const POLICIES: Readonly<Record<PolicyName, Policy>> = {
  upload: UPLOAD,
  strict: { ...UPLOAD, name: 'strict', formats: ['qcow2'], failOn: 'medium' },
  openstack: { ...UPLOAD, name: 'openstack', formats: ['qcow2', 'raw', 'iso', 'vhd', 'vhdx', 'vmdk', 'vdi'] },
  forensic: {
    name: 'forensic',
    formats: FORMAT_NAMES,
    failOn: 'high',
    severities: FORENSIC_SEVERITIES,
    maxVirtualSize: NO_LIMIT,
  },
};

export const POLICY_NAMES = Object.keys(POLICIES) as readonly PolicyName[];

/** A policy by its name, or as an object of the caller's. */
export function policyOf(policy: PolicyName | Policy): Policy {
  return typeof policy === 'string' ? POLICIES[policy] : policy;
}

/** How bad a finding is for this policy. */
export function severityOf(policy: Policy, id: RuleId): Severity {
  return policy.severities[id] ?? ruleOf(id).severity;
}

/** Whether that rejects. */
export function rejects(policy: Pick<Policy, 'failOn'>, severity: Severity): boolean {
  return SEVERITIES.indexOf(severity) >= SEVERITIES.indexOf(policy.failOn);
}

/**
 * A policy from the text of a JSON file: an object with `base` (a policy's name, default upload), and any of `name`,
 * `formats`, `failOn`, `severities`, `maxVirtualSize`. What it does not understand it refuses: a typing error must not
 * open a door. Throws ERR_INVALID_ARGUMENT.
 */
export function parsePolicy(text: string): Policy {
  const given = parseObject(text);
  const { base = 'upload', name, formats, failOn, severities, maxVirtualSize, ...others } = given;
  const [other] = Object.keys(others);
  if (other !== undefined) throw wrong(`unknown member '${other}'`);
  if (!POLICY_NAMES.includes(base as PolicyName)) throw wrong(`'base' is none of ${POLICY_NAMES.join(', ')}`);
  const policy = { ...POLICIES[base as PolicyName] };
  if (name !== undefined && typeof name !== 'string') throw wrong("'name' is no text");
  if (maxVirtualSize !== undefined && !(Number.isSafeInteger(maxVirtualSize) && Number(maxVirtualSize) >= 0)) {
    throw wrong("'maxVirtualSize' is no number of bytes");
  }
  if (failOn !== undefined && !isSeverity(failOn)) throw wrong(`'failOn' is none of ${SEVERITIES.join(', ')}`);
  return {
    ...policy,
    name: name ?? 'custom',
    formats: formats === undefined ? policy.formats : formatList(formats),
    failOn: failOn ?? policy.failOn,
    severities: severities === undefined ? policy.severities : { ...policy.severities, ...severityTable(severities) },
    maxVirtualSize: maxVirtualSize === undefined ? policy.maxVirtualSize : Number(maxVirtualSize),
  };
}

function parseObject(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw wrong((error as Error).message);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('it is no object');
  return value as Record<string, unknown>;
}

function formatList(value: unknown): FormatName[] {
  const known: readonly unknown[] = FORMAT_NAMES;
  if (!Array.isArray(value) || !value.every((format) => known.includes(format))) {
    throw wrong(`'formats' is no list of ${FORMAT_NAMES.join(', ')}`);
  }
  return value as FormatName[];
}

function severityTable(value: unknown): Partial<Record<RuleId, Severity>> {
  if (typeof value !== 'object' || value === null) throw wrong("'severities' is no object");
  for (const [id, severity] of Object.entries(value)) {
    if (!Object.hasOwn(RULES, id)) throw wrong(`no rule is called '${id}'`);
    if (!isSeverity(severity)) throw wrong(`'${id}' is none of ${SEVERITIES.join(', ')}`);
  }
  return value;
}

function isSeverity(value: unknown): value is Severity {
  return (SEVERITIES as readonly unknown[]).includes(value);
}

function wrong(reason: string): CorralError {
  return new CorralError('ERR_INVALID_ARGUMENT', { reason: `The policy makes no sense: ${reason}` });
}
