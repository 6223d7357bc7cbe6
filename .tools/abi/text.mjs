/** What the two emitters share: comments, the notice above a generated file, and the hash of the whole description. */

/** @typedef {import('./parse.mjs').AbiFile} AbiFile */

/**
 * A doc comment in the form that TypeScript and C++ share, or nothing.
 *
 * @param {string} doc
 * @param {string} indent
 * @returns {string[]}
 */
export function comment(doc, indent) {
  if (doc === '') return [];
  const lines = doc.split('\n');
  if (lines.length === 1) return [`${indent}/** ${doc} */`];
  return [`${indent}/**`, ...lines.map((line) => `${indent} * ${line}`.trimEnd()), `${indent} */`];
}

/** The first lines of every generated file. */
export const NOTICE = [
  '// Generated from assembly/abi/ by `npm run abi`. Do not edit: change the declarations there.',
  '',
];

/**
 * A number that changes whenever a name, value, type or offset does; comments do not count. (FNV-1a, 32 bits: it
 * protects against a stale build, not against an attacker.)
 *
 * @param {AbiFile[]} files
 */
export function abiHash(files) {
  const description = JSON.stringify(
    files.map(({ enums, records, constants }) => [
      enums.map(({ name, members }) => [name, members.map((member) => [member.name, member.value])]),
      records.map(({ name, size, fields }) => [
        name,
        size,
        fields.map((field) => [field.name, field.type, field.offset]),
      ]),
      constants.map(({ name, type, value }) => [name, type, value.toString()]),
    ]),
  );
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(description)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

/** @param {number} hash */
export function hexadecimal(hash) {
  return `0x${hash.toString(16).padStart(8, '0')}`;
}
