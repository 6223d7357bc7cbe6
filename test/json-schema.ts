/** The part of JSON Schema that our schemas use. What it does not know it refuses, so that no word of a schema is idle. */

interface Schema {
  readonly [word: string]: unknown;
}

const IGNORED = ['$schema', '$id', '$defs', 'title'];
const TYPES: Readonly<Record<string, (value: unknown) => boolean>> = {
  object: (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  array: Array.isArray,
  string: (value) => typeof value === 'string',
  integer: Number.isInteger,
  boolean: (value) => typeof value === 'boolean',
};

/** What is wrong with a value, a line each; empty when it is right. */
export function schemaFaults(root: Schema, value: unknown, schema: Schema = root, path = '$'): string[] {
  return Object.entries(schema).flatMap(([word, rule]) => {
    if (IGNORED.includes(word)) return [];
    const judge = JUDGES[word];
    if (judge === undefined) throw new Error(`${path}: the schema says '${word}', which is not known here`);
    return judge({ root, schema, value, path }, rule);
  });
}

interface Place {
  readonly root: Schema;
  readonly schema: Schema;
  readonly value: unknown;
  readonly path: string;
}

const JUDGES: Readonly<Record<string, (place: Place, rule: unknown) => string[]>> = {
  $ref: ({ root, value, path }, rule) => {
    if (rule === '#') return schemaFaults(root, value, root, path);
    const name = String(rule).replace('#/$defs/', '');
    const target = (root.$defs as Record<string, Schema>)[name];
    if (target === undefined) throw new Error(`${path}: no definition '${name}'`);
    return schemaFaults(root, value, target, path);
  },
  type: ({ value, path }, rule) => (TYPES[String(rule)]?.(value) ? [] : [`${path} is no ${rule}`]),
  enum: ({ value, path }, rule) => ((rule as unknown[]).includes(value) ? [] : [`${path} is ${value}`]),
  pattern: ({ value, path }, rule) =>
    typeof value === 'string' && !new RegExp(String(rule)).test(value) ? [`${path} is '${value}'`] : [],
  required: ({ value, path }, rule) =>
    (rule as string[]).filter((name) => !Object.hasOwn(value as object, name)).map((name) => `${path} lacks ${name}`),
  items: ({ root, value, path }, rule) =>
    (value as unknown[]).flatMap((item, index) => schemaFaults(root, item, rule as Schema, `${path}[${index}]`)),
  properties: ({ root, value, path }, rule) =>
    Object.entries(rule as Record<string, Schema>).flatMap(([name, inner]) => {
      const member = (value as Record<string, unknown>)[name];
      return member === undefined ? [] : schemaFaults(root, member, inner, `${path}.${name}`);
    }),
  additionalProperties: ({ root, schema, value, path }, rule) =>
    Object.entries(value as object).flatMap(([name, member]) => {
      if (Object.hasOwn((schema.properties ?? {}) as object, name)) return [];
      return rule === false ? [`${path} has ${name}`] : schemaFaults(root, member, rule as Schema, `${path}.${name}`);
    }),
};
