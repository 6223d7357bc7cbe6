/**
 * Reads the boundary's declarations out of assembly/abi/*.ts.
 *
 * Those files are AssemblyScript, but they keep to three forms (enums, `@unmanaged` classes of plain number fields,
 * integer constants), so that TypeScript's own parser reads them. Anything else is refused with file and line: what
 * the generator does not understand must not cross the boundary unseen.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import ts from 'typescript';

/**
 * @typedef {'u8' | 'u16' | 'u32' | 'i32' | 'u64'} FieldType
 * @typedef {{ name: string, type: FieldType, offset: number, doc: string }} Field
 * @typedef {{ name: string, doc: string, size: number, alignment: number, fields: Field[] }} RecordType
 * @typedef {{ name: string, doc: string, members: { name: string, value: number, doc: string }[] }} EnumType
 * @typedef {{ name: string, doc: string, type: FieldType, value: bigint }} Constant
 * @typedef {{ file: string, enums: EnumType[], records: RecordType[], constants: Constant[] }} AbiFile
 */

/** Bytes of each field type; its alignment is the same. @type {Record<FieldType, number>} */
export const TYPE_SIZE = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8 };

/** A declaration that the generator refuses; the message says where and why. */
export class AbiError extends Error {}

/**
 * Every declaration of a folder, in the order of its file names.
 *
 * @param {string} folder holds the `*.ts` files
 * @returns {AbiFile[]}
 */
export function parseFolder(folder) {
  const names = readdirSync(folder)
    .filter((name) => name.endsWith('.ts'))
    .sort();
  const files = names.map((name) =>
    parseFile(posix.join('assembly/abi', name), readFileSync(join(folder, name), 'utf8')),
  );

  /** @type {Map<string, string>} */
  const owners = new Map();
  for (const { file, enums, records, constants } of files) {
    for (const { name } of [...enums, ...records, ...constants]) {
      const owner = owners.get(name);
      if (owner !== undefined) throw new AbiError(`${file}: ${name} is declared in ${owner} already`);
      owners.set(name, file);
    }
  }
  return files;
}

/**
 * @param {string} file the name for messages
 * @param {string} text
 * @returns {AbiFile}
 */
export function parseFile(file, text) {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ES2022, true, ts.ScriptKind.TS);
  /** @type {AbiFile} */
  const abi = { file, enums: [], records: [], constants: [] };

  for (const statement of source.statements) {
    if (!ts.canHaveModifiers(statement) || !isExported(statement))
      fail(statement, 'only exported declarations are allowed');
    if (ts.isEnumDeclaration(statement)) abi.enums.push(parseEnum(statement));
    else if (ts.isClassDeclaration(statement)) abi.records.push(parseRecord(statement));
    else if (ts.isVariableStatement(statement)) abi.constants.push(...parseConstants(statement));
    else fail(statement, 'only enums, @unmanaged classes and integer constants are allowed');
  }
  return abi;
}

/** @param {ts.EnumDeclaration} declaration @returns {EnumType} */
function parseEnum(declaration) {
  /** @type {Map<string, number>} */
  const values = new Map();
  const members = declaration.members.map((member) => {
    const name = member.name.getText();
    if (member.initializer === undefined) fail(member, `${name} needs an explicit value`);
    const value = Number(evaluate(/** @type {ts.Expression} */ (member.initializer)));
    if (value < 0 || value > 0x7fff_ffff) fail(member, `${name} must be 0 to 2^31-1 (AssemblyScript's enums are i32)`);
    if (values.has(name)) fail(member, `${name} is declared twice`);
    values.set(name, value);
    return { name, value, doc: docOf(member) };
  });
  if (new Set(values.values()).size !== values.size) fail(declaration, 'two members have the same value');
  return { name: declaration.name.text, doc: docOf(declaration), members };
}

/** @param {ts.ClassDeclaration} declaration @returns {RecordType} */
function parseRecord(declaration) {
  const name = declaration.name?.text ?? fail(declaration, 'a record needs a name');
  const decorators = (ts.getDecorators(declaration) ?? []).map((decorator) => decorator.expression.getText());
  if (!decorators.includes('unmanaged')) fail(declaration, `${name} must be @unmanaged: a record has no object header`);
  if (declaration.heritageClauses !== undefined) fail(declaration, `${name} must not extend anything`);

  /** @type {Field[]} */
  const fields = [];
  let offset = 0;
  let alignment = 1;
  for (const member of declaration.members) {
    if (!ts.isPropertyDeclaration(member)) fail(member, 'a record has fields only');
    const property = /** @type {ts.PropertyDeclaration} */ (member);
    const fieldName = property.name.getText();
    if (RESERVED_FIELDS.has(fieldName))
      fail(member, `${fieldName} is a member of every generated view, choose another name`);
    const type = fieldType(property.type, member);
    const size = TYPE_SIZE[type];
    offset = Math.ceil(offset / size) * size;
    fields.push({ name: fieldName, type, offset, doc: docOf(member) });
    offset += size;
    alignment = Math.max(alignment, size);
  }
  if (fields.length === 0) fail(declaration, `${name} has no field`);
  // AssemblyScript adds no padding at a record's end, C++ does: an array of such records would differ.
  if (offset % alignment !== 0) {
    fail(
      declaration,
      `${name} has ${offset} bytes, not a multiple of its alignment ${alignment}: add a reserved field`,
    );
  }
  return { name, doc: docOf(declaration), size: offset, alignment, fields };
}

const RESERVED_FIELDS = new Set(['at', 'constructor', 'recordAddress', 'start', 'bytes', 'halves', 'words']);

/** @param {ts.VariableStatement} statement @returns {Constant[]} */
function parseConstants(statement) {
  if ((statement.declarationList.flags & ts.NodeFlags.Const) === 0) fail(statement, 'a constant must be const');
  return statement.declarationList.declarations.map((declaration) => {
    const name = declaration.name.getText();
    if (declaration.initializer === undefined) fail(declaration, `${name} needs a value`);
    const type = fieldType(declaration.type, declaration);
    const value = evaluate(/** @type {ts.Expression} */ (declaration.initializer));
    const [least, most] =
      type === 'i32' ? [-(2n ** 31n), 2n ** 31n - 1n] : [0n, 2n ** BigInt(8 * TYPE_SIZE[type]) - 1n];
    if (value < least || value > most) fail(declaration, `${name} does not fit into ${type}`);
    return { name, doc: docOf(statement), type, value };
  });
}

/**
 * @param {ts.TypeNode | undefined} type
 * @param {ts.Node} node for messages
 * @returns {FieldType}
 */
function fieldType(type, node) {
  const name = type?.getText() ?? fail(node, 'the type must be written out');
  if (name === 'usize') return 'u32'; // wasm32: an address is 32 bits
  if (!Object.hasOwn(TYPE_SIZE, name)) fail(node, `type ${name} is not one of u8, u16, u32, i32, u64, usize`);
  return /** @type {FieldType} */ (name);
}

/**
 * Integer literals, their sign, and `<<`, `|`, `+`, `-`, `*` over them.
 *
 * @param {ts.Expression} expression
 * @returns {bigint}
 */
function evaluate(expression) {
  if (ts.isNumericLiteral(expression) && /^[0-9a-fA-FxXbBoO_]+$/.test(expression.getText())) {
    return BigInt(expression.getText().replaceAll('_', ''));
  }
  if (ts.isParenthesizedExpression(expression)) return evaluate(expression.expression);
  if (ts.isPrefixUnaryExpression(expression) && expression.operator === ts.SyntaxKind.MinusToken) {
    return -evaluate(expression.operand);
  }
  if (ts.isBinaryExpression(expression)) {
    const left = evaluate(expression.left);
    const right = evaluate(expression.right);
    switch (expression.operatorToken.kind) {
      case ts.SyntaxKind.LessThanLessThanToken:
        return left << right;
      case ts.SyntaxKind.BarToken:
        return left | right;
      case ts.SyntaxKind.PlusToken:
        return left + right;
      case ts.SyntaxKind.MinusToken:
        return left - right;
      case ts.SyntaxKind.AsteriskToken:
        return left * right;
    }
  }
  return fail(expression, `${expression.getText()} is not an integer constant`);
}

/** @param {ts.HasModifiers} node */
function isExported(node) {
  return ts.getModifiers(node)?.some((modifier) => modifier.kind === ts.SyntaxKind.ExportKeyword) ?? false;
}

/**
 * The text of a node's doc comment, its lines without the stars; '' when it has none.
 *
 * @param {ts.Node} node
 */
function docOf(node) {
  const comment = ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc).at(-1);
  if (comment === undefined) return '';
  return comment
    .getText()
    .replace(/^\/\*\*/, '')
    .replace(/\*\/$/, '')
    .split('\n')
    .map((line) => line.replace(/^\s*\* ?/, '').trimEnd())
    .join('\n')
    .trim();
}

/**
 * @param {ts.Node} node
 * @param {string} message
 * @returns {never}
 */
function fail(node, message) {
  const source = node.getSourceFile();
  const { line } = source.getLineAndCharacterOfPosition(node.getStart());
  throw new AbiError(`${source.fileName}:${line + 1}: ${message}`);
}
