/** Everything that an inspection can find: what it is called, how bad it is, and which advisories it belongs to. */

/** From a remark to what nobody may open. */
export type Severity = 'info' | 'low' | 'medium' | 'high' | 'critical';

export const SEVERITIES: readonly Severity[] = ['info', 'low', 'medium', 'high', 'critical'];

/** How far an inspection goes: the header alone, every table and reference, or the content of the disk, too. */
export type Depth = 'header' | 'tables' | 'full';

export const DEPTHS: readonly Depth[] = ['header', 'tables', 'full'];

export interface Rule {
  /** How bad a finding is, unless a policy says otherwise. */
  readonly severity: Severity;
  /** What is looked for, in a few words. */
  readonly title: string;
  /** The first depth that looks for it. */
  readonly depth: Depth;
  /** It says that the inspection could not come to its end: never accepted. */
  readonly incomplete?: true;
  /** Published advisories about images with such a finding. */
  readonly advisories?: readonly string[];
}

/** Advisories that are about many rules. */
const HEADER_ARITHMETIC = ['CVE-2014-0143', 'CVE-2014-0145', 'CVE-2014-0147'];
const PROBING = ['CVE-2008-2004', 'CVE-2024-40767', 'CVE-2026-24708', 'CVE-2026-27211'];
const EXHAUSTION = ['CVE-2015-5162', 'CVE-2018-10908'];

/** In the order of the report. The ids are stable. */
export const RULES = {
  'format.ambiguous': rule('critical', 'more than one format at once', 'header', PROBING),
  'format.declared-mismatch': rule('critical', 'another format than was declared', 'header', PROBING),
  'format.banned': rule('high', 'a format that the policy does not allow', 'header', ['CVE-2024-44082']),
  'format.header': rule('high', 'a header that contradicts its format', 'header', ['CVE-2014-0142', 'CVE-2014-0144']),
  'format.raw-fallback': rule('medium', 'no format and no partition table', 'header'),
  'format.header-only': rule('info', 'a format of which only the header is looked at', 'header'),
  'header.truncated': rule('high', 'a file that ends within its header', 'header'),
  'header.version': rule('high', 'an unknown version', 'header'),

  'ref.backing-file': rule('high', 'the name of a backing file', 'header', ['CVE-2015-1851', 'CVE-2015-5163']),
  'ref.backing-format-missing': rule('medium', 'a backing file without its format', 'header', ['CVE-2010-2237']),
  'ref.data-file': rule('critical', 'an external data file', 'header', ['CVE-2024-32498', 'CVE-2024-4467']),
  'ref.data-file-name-missing': rule('high', 'an external data file without a name', 'header'),
  'ref.data-file-raw': rule('info', 'an external data file that is a raw disk', 'header'),
  'ref.extent-file': rule('critical', 'a descriptor that names files', 'header', ['CVE-2022-47951']),
  'ref.name-protocol': rule('critical', 'a name that begins with a protocol', 'header', ['CVE-2024-4467']),
  'ref.name-absolute': rule('high', 'an absolute path', 'header', ['CVE-2015-5163']),
  'ref.name-traversal': rule('high', 'a path that leads upwards', 'header'),
  'ref.name-device': rule('high', 'a path to devices, processes or network shares', 'header'),
  'ref.name-control-chars': rule('high', 'a name with control characters', 'header'),
  'ref.name-not-utf8': rule('high', 'a name that is no UTF-8', 'header'),
  'ref.name-nul': rule('high', 'a name with a zero byte', 'header'),
  'ref.cycle': rule('high', 'an image that continues from itself', 'header'),
  'ref.depth': rule('high', 'more files behind the image than are allowed', 'header', EXHAUSTION),
  'ref.name-position': rule('high', 'a name outside its place in the first cluster', 'header', ['CVE-2014-0144']),

  'hdr.length': rule('high', 'header length', 'header', HEADER_ARITHMETIC),
  'hdr.cluster-bits': rule('high', 'cluster size', 'header', HEADER_ARITHMETIC),
  'hdr.refcount-order': rule('high', 'refcount width', 'header', HEADER_ARITHMETIC),
  'hdr.crypt-method': rule('high', 'encryption method', 'header'),
  'hdr.size-alignment': rule('medium', 'a disk that does not end with a sector', 'header'),
  'hdr.l1-size': rule('high', 'length of the L1 table', 'header', HEADER_ARITHMETIC),
  'hdr.l1-offset': rule('high', 'place of the L1 table', 'header', HEADER_ARITHMETIC),
  'hdr.reftable': rule('high', 'place or length of the refcount table', 'header', HEADER_ARITHMETIC),
  'hdr.snapshot-table': rule('high', 'place or length of the snapshot table', 'header', HEADER_ARITHMETIC),
  'hdr.extension-length': rule('high', 'length of a header extension', 'header', ['CVE-2014-0143']),
  'hdr.extension-duplicate': rule('high', 'a header extension that is there twice', 'header'),
  'hdr.extension-unknown': rule('info', 'an unknown header extension', 'header'),
  'hdr.unknown-incompatible': rule('critical', 'unknown incompatible features', 'header'),
  'hdr.unknown-compatible': rule('info', 'unknown compatible features', 'header'),
  'hdr.unknown-autoclear': rule('info', 'unknown autoclear features', 'header'),
  'hdr.raw-without-data-file': rule('high', 'an external data file that is raw and missing', 'header'),
  'hdr.known-incompatible': rule('info', 'features that old programs refuse', 'header'),
  'hdr.dirty': rule('medium', 'an image that was not closed', 'header'),
  'hdr.corrupt': rule('high', 'an image that is marked as corrupt', 'header'),
  'hdr.compression-type': rule('high', 'compression type', 'header'),
  'hdr.subcluster-size': rule('high', 'clusters too small for subclusters', 'header'),

  'crypt.present': rule('high', 'encryption: what the disk holds stays unknown', 'header'),
  'crypt.legacy-aes': rule('high', 'encryption that is no longer safe', 'header'),
  'crypt.luks-header': rule('high', 'a LUKS header that is wrong or missing', 'header'),
  'crypt.kdf-cost': rule('high', 'a key that is expensive to derive', 'header', EXHAUSTION),

  'snap.table': rule('high', 'an entry of the snapshot table', 'header', ['CVE-2014-0146']),
  'snap.extra-data': rule('high', 'extra data of a snapshot', 'header'),
  'snap.duplicate-id': rule('medium', 'two snapshots with one id', 'header'),
  'snap.hidden-state': rule('medium', 'snapshots: disks beside the active one', 'header'),
  'snap.vm-state': rule('medium', 'a saved state of a machine, its memory included', 'header'),
  'bitmap.directory': rule('high', 'the directory of bitmaps', 'header'),
  'bitmap.stale': rule('info', 'bitmaps that no longer count', 'header'),
  'bitmap.extra-data': rule('high', 'extra data of a bitmap', 'header'),
  'bitmap.in-use': rule('medium', 'a bitmap that was not stored', 'header'),
  'text.escape-sequences': rule('medium', 'text that could deceive a terminal', 'header'),

  'map.offset-range': rule('high', 'an entry that points outside the file', 'tables', ['CVE-2014-0145']),
  'map.offset-alignment': rule('high', 'an entry that points between clusters', 'tables'),
  'map.reserved-bits': rule('high', 'reserved bits in an entry', 'tables'),
  'map.copied-flag': rule('high', 'a COPIED flag that contradicts the refcount', 'tables'),
  'map.points-to-metadata': rule('critical', 'an entry that points to metadata', 'tables'),
  'map.shared-cluster': rule('high', 'a cluster with more owners than its refcount says', 'tables'),
  'map.compressed-range': rule('high', 'place of a compressed cluster', 'tables'),
  'map.extl2-bitmap': rule('high', 'bits of subclusters that exclude each other', 'tables'),
  'map.more': rule('high', 'more errors in tables than are listed', 'tables'),
  'size.virtual-limit': rule('high', 'size of the disk', 'header', ['CVE-2013-4463', 'CVE-2013-2096']),
  'size.expansion-ratio': rule('medium', 'a disk far larger than its file', 'tables', ['CVE-2013-4463']),
  'size.file-truncated': rule('high', 'a file that ends before what its tables name', 'tables'),
  'size.trailing-data': rule('low', 'bytes behind the last cluster in use', 'tables'),
  'refcount.table': rule('high', 'an entry of the refcount table', 'tables', ['CVE-2014-0143']),
  'refcount.mismatch': rule('high', 'a refcount that is too low', 'tables'),
  'refcount.leak': rule('low', 'a refcount that is too high', 'tables'),
  'bitmap.table': rule('high', 'a bitmap that cannot be loaded', 'tables'),

  'content.nested-format': rule(
    'critical',
    'a disk image within the disk, where probing would find it',
    'full',
    PROBING,
  ),
  'content.nested-partition': rule('medium', 'a disk image that is a partition', 'full', PROBING),
  'content.unreadable': rule('high', 'a part of the disk that cannot be read', 'full'),
  'content.partition-table': rule('medium', 'a partition table that contradicts itself', 'full'),
  'content.fs-id': rule('info', 'what the disk and its partitions hold', 'full'),

  'limit.read': limit('more bytes to read than the limit', EXHAUSTION),
  'limit.time': limit('more time than the limit', EXHAUSTION),
  'limit.clusters': limit('more clusters than the limit', EXHAUSTION),
  'limit.memory': limit('structures that are longer than there is memory for', EXHAUSTION),
  'limit.snapshots': limit('more snapshots than are looked into', EXHAUSTION),
  'inspect.read-error': limit('a read that was not answered'),
  'inspect.unsupported': limit('a structure that cannot be inspected yet'),
  'inspect.internal-error': rule('critical', 'a mistake of the inspector', 'header'),
} as const satisfies Record<string, Rule>;

export type RuleId = keyof typeof RULES;

export const RULE_IDS = Object.keys(RULES) as readonly RuleId[];

/** The rule under an id, with all its properties. */
export function ruleOf(id: RuleId): Rule {
  return RULES[id];
}

function rule(severity: Severity, title: string, depth: Depth, advisories: readonly string[] = []): Rule {
  return { severity, title, depth, advisories };
}

function limit(title: string, advisories: readonly string[] = []): Rule {
  return { severity: 'high', title, depth: 'header', incomplete: true, advisories };
}
