/** Writes native/abi.hpp: the same enums and records, with every size and offset asserted. */
import { abiHash, comment, hexadecimal, NOTICE } from './text.mjs';

/**
 * @typedef {import('./parse.mjs').AbiFile} AbiFile
 * @typedef {import('./parse.mjs').FieldType} FieldType
 */

/** @type {Record<FieldType, string>} */
const CPP_TYPE = { u8: 'uint8_t', u16: 'uint16_t', u32: 'uint32_t', i32: 'int32_t', u64: 'uint64_t' };

/** @param {AbiFile[]} files */
export function emitCpp(files) {
  const lines = [
    ...NOTICE,
    '#pragma once',
    '',
    '#include <cstddef>',
    '#include <cstdint>',
    '',
    'namespace corral::abi {',
    '',
    '/** Hash of these declarations; the core exports its own. */',
    `inline constexpr uint32_t ABI_HASH = ${hexadecimal(abiHash(files))}u;`,
    '',
  ];
  for (const { file, enums, records, constants } of files) {
    lines.push(`// ---- ${file}`, '');
    for (const { name, doc, type, value } of constants) {
      lines.push(...comment(doc, ''), `inline constexpr ${CPP_TYPE[type]} ${name} = ${literal(type, value)};`, '');
    }
    for (const { name, doc, members } of enums) {
      lines.push(...comment(doc, ''), `enum class ${name} : uint32_t {`);
      for (const member of members) lines.push(...comment(member.doc, '  '), `  ${member.name} = ${member.value},`);
      lines.push('};', '');
    }
    for (const { name, doc, size, alignment, fields } of records) {
      lines.push(...comment(doc, ''), `struct ${name} {`);
      for (const field of fields) lines.push(...comment(field.doc, '  '), `  ${CPP_TYPE[field.type]} ${field.name};`);
      lines.push('};', `static_assert(sizeof(${name}) == ${size} && alignof(${name}) == ${alignment});`);
      for (const field of fields) lines.push(`static_assert(offsetof(${name}, ${field.name}) == ${field.offset});`);
      lines.push('');
    }
  }
  lines.push('}  // namespace corral::abi', '');
  return lines.join('\n');
}

/**
 * @param {FieldType} type
 * @param {bigint} value
 */
function literal(type, value) {
  return type === 'i32' ? `${value}` : `${value}${type === 'u64' ? 'ull' : 'u'}`;
}
