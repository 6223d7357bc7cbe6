/** Writes host/abi.ts (enums, constants, layouts, views) and assembly/abi-hash.ts. */
import { TYPE_SIZE } from './parse.mjs';
import { abiHash, comment, hexadecimal, NOTICE } from './text.mjs';

/**
 * @typedef {import('./parse.mjs').AbiFile} AbiFile
 * @typedef {import('./parse.mjs').RecordType} RecordType
 * @typedef {import('./parse.mjs').Field} Field
 */

/** @param {AbiFile[]} files */
export function emitAssemblyHash(files) {
  return [
    ...NOTICE,
    '/** Hash of everything in assembly/abi/; hosts compare it with the one that they were built with. */',
    `export const ABI_HASH: u32 = ${hexadecimal(abiHash(files))};`,
    '',
  ].join('\n');
}

/** @param {AbiFile[]} files */
export function emitTypeScript(files) {
  const lines = [
    ...NOTICE,
    '// A view reads and writes one record in the memory of a core. Typed arrays have the byte order of the machine and',
    '// WebAssembly is little-endian: the views need a little-endian machine, as every JavaScript platform of today is.',
    '',
    '/** Hash of these declarations; the core exports its own. */',
    `export const ABI_HASH = ${hexadecimal(abiHash(files))};`,
    '',
  ];
  for (const { file, enums, records, constants } of files) {
    lines.push(`// ---- ${file}`, '');
    for (const { name, doc, value } of constants) {
      const literal = value > BigInt(Number.MAX_SAFE_INTEGER) ? `${value}n` : `${value}`;
      lines.push(...comment(doc, ''), `export const ${name} = ${literal};`, '');
    }
    for (const { name, doc, members } of enums) {
      lines.push(...comment(doc, ''), `export const ${name} = {`);
      for (const member of members) lines.push(...comment(member.doc, '  '), `  ${member.name}: ${member.value},`);
      lines.push(
        '} as const;',
        ...comment(doc, ''),
        `export type ${name} = (typeof ${name})[keyof typeof ${name}];`,
        '',
      );
    }
    for (const record of records) lines.push(...recordLines(record), '');
  }
  if (files.some(({ records }) => records.some(({ fields }) => fields.some(({ type }) => type === 'u64')))) {
    lines.push(...HELPERS);
  }
  return `${lines.join('\n').trimEnd()}\n`;
}

/** @param {RecordType} record */
function recordLines({ name, doc, size, alignment, fields }) {
  const uses = new Set(fields.map(({ type }) => ARRAY_OF[type]));
  const lines = [
    `/** Where the fields of ${name} lie, in bytes from the start of the record. */`,
    `export const ${name}Layout = {`,
    `  size: ${size},`,
    `  alignment: ${alignment},`,
    '  offsets: {',
    ...fields.map((field) => `    ${field.name}: ${field.offset},`),
    '  },',
    '} as const;',
    '',
    ...comment(doc, ''),
    `export class ${name}View {`,
  ];
  for (const array of ARRAYS.filter(({ member }) => uses.has(member))) {
    lines.push(`  private readonly ${array.member}: ${array.constructor};`);
  }
  lines.push(
    '  private start = 0;',
    '',
    '  /**',
    "   * @param memory the core's whole memory; a view does not outlive its growth",
    '   * @param address see `at`',
    '   */',
    '  constructor(memory: ArrayBufferLike, address = 0) {',
  );
  for (const array of ARRAYS.filter(({ member }) => uses.has(member))) {
    const length = array.size === 1 ? '' : `, 0, Math.floor(memory.byteLength / ${array.size})`;
    lines.push(`    this.${array.member} = new ${array.constructor}(memory${length});`);
  }
  lines.push(
    '    this.at(address);',
    '  }',
    '',
    '  /** Points this same object at another record. Takes an address as the core returns it, signed or not. */',
    '  at(address: number): this {',
    ...(alignment === 1
      ? []
      : [
          `    if ((address & ${alignment - 1}) !== 0) {`,
          `      throw new RangeError(\`${name} at \${address >>> 0}: not a multiple of ${alignment}\`);`,
          '    }',
        ]),
    '    this.start = address >>> 0;',
    '    return this;',
    '  }',
    '',
    '  /** The address of the record in the memory, in bytes. */',
    '  get recordAddress(): number {',
    '    return this.start;',
    '  }',
  );
  for (const field of fields) lines.push('', ...accessors(name, field));
  lines.push('}');
  return lines;
}

const ARRAYS = /** @type {const} */ ([
  { member: 'bytes', constructor: 'Uint8Array', size: 1 },
  { member: 'halves', constructor: 'Uint16Array', size: 2 },
  { member: 'words', constructor: 'Uint32Array', size: 4 },
]);

const ARRAY_OF = /** @type {const} */ ({ u8: 'bytes', u16: 'halves', u32: 'words', i32: 'words', u64: 'words' });

/**
 * @param {string} record
 * @param {Field} field
 */
function accessors(record, { name, type, offset, doc }) {
  const element = Math.min(TYPE_SIZE[type], 4);
  const shift = Math.log2(element);
  /** @param {number} extra bytes behind the field's start */
  const index = (extra) => {
    const start = shift === 0 ? 'this.start' : `(this.start >>> ${shift})`;
    const elements = (offset + extra) / element;
    return elements === 0 ? start.replace(/^\((.*)\)$/, '$1') : `${start} + ${elements}`;
  };
  const slot = `this.${ARRAY_OF[type]}[${index(0)}]`;
  if (type !== 'u64') {
    return [
      ...comment(doc, '  '),
      `  get ${name}(): number {`,
      `    return ${type === 'i32' ? `${slot} | 0` : slot};`,
      '  }',
      `  set ${name}(value: number) {`,
      `    ${slot} = value;`,
      '  }',
    ];
  }
  return [
    ...comment(doc, '  '),
    `  get ${name}(): number {`,
    `    return join(this.words[${index(0)}], this.words[${index(4)}], '${record}.${name}');`,
    '  }',
    `  set ${name}(value: number) {`,
    `    this.words[${index(4)}] = highWord(value, '${record}.${name}');`,
    `    this.words[${index(0)}] = value;`,
    '  }',
    '',
    ...comment(`\`${name}\` as a BigInt, without a limit.`, '  '),
    `  get ${name}Big(): bigint {`,
    `    return (BigInt(this.words[${index(4)}]) << 32n) | BigInt(this.words[${index(0)}]);`,
    '  }',
    `  set ${name}Big(value: bigint) {`,
    `    this.words[${index(0)}] = Number(value & 0xffffffffn);`,
    `    this.words[${index(4)}] = Number((value >> 32n) & 0xffffffffn);`,
    '  }',
  ];
}

// Two 32-bit loads: a quarter of the time of Number(BigUint64Array[i]).
const HELPERS = [
  '/** A 64-bit number from its halves, while it is exact. */',
  'function join(low: number, high: number, field: string): number {',
  '  if (high > 0x1fffff) throw new RangeError(`${field} is beyond 2^53-1`);',
  '  return high * 0x100000000 + low;',
  '}',
  '',
  '/** The upper half of what goes into a 64-bit field; storing the number itself keeps the lower half. */',
  'function highWord(value: number, field: string): number {',
  '  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${field} cannot be ${value}`);',
  '  return Math.floor(value / 0x100000000);',
  '}',
];
