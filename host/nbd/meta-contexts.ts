/** What clients ask of an export beside its bytes: which contexts a query means, and what they say of a range. */
import type { MetaContext, NbdExport } from './export.js';
import type { ContextStatus, StatusExtent } from './transmission-messages.js';

/** A context that a client has chosen. */
export interface ChosenContext {
  /** What replies call it. */
  readonly id: number;
  readonly context: MetaContext;
}

/** Stretches of one context in one reply; a client asks again from where they end. */
const MAXIMUM_EXTENTS = 4096;
/** Longest stretch without extended headers. Round, so that the next question is aligned. */
const MAXIMUM_LENGTH = 0xffff0000;
/** Stretches that are looked at for one context in one reply, joined or not: bounds the work. */
const MAXIMUM_LOOKS = 1 << 20;

/** Bytes that the longest answer of one context takes. */
export const LONGEST_STATUS = 48 + MAXIMUM_EXTENTS * 16;

/** What a list shows: everything without a query, what begins with a query that ends in a colon, or what it names. */
export function listContexts(exported: NbdExport, queries: readonly Buffer[]): MetaContext[] {
  if (queries.length === 0) return [...exported.contexts];
  return exported.contexts.filter(({ name }) => {
    const bytes = Buffer.from(name);
    return queries.some((query) =>
      query.at(-1) === COLON ? bytes.subarray(0, query.length).equals(query) : bytes.equals(query),
    );
  });
}

const COLON = 0x3a;

/** What a client gets that chooses: exactly what it names. */
export function chooseContexts(exported: NbdExport, queries: readonly Buffer[]): ChosenContext[] {
  return exported.contexts
    .map((context, index) => ({ id: index + 1, context }))
    .filter(({ context }) => queries.some((query) => query.equals(Buffer.from(context.name))));
}

/** What a question is about. Numbers are bytes. */
export interface StatusQuestion {
  readonly offset: number;
  /** At least 1. */
  readonly length: number;
  /** The first stretch is enough. */
  readonly onlyOne: boolean;
  /** The longest stretch that the reply can hold is not the limit. */
  readonly isExtended: boolean;
}

/** What a context says of the range, or of its beginning: as much as fits into a reply. */
export async function statusOf({ id, context }: ChosenContext, question: StatusQuestion): Promise<ContextStatus> {
  const { offset, onlyOne, isExtended } = question;
  const length = isExtended ? question.length : Math.min(question.length, MAXIMUM_LENGTH);
  const extents: { length: number; status: number }[] = [];
  let covered = 0;
  let looks = 0;
  for await (const extent of context.extents(offset, length)) {
    const last = extents.at(-1);
    const count = Math.min(extent.length, length - covered);
    if (last !== undefined && last.status === extent.status) {
      last.length += count;
    } else {
      if (extents.length === (onlyOne ? 1 : MAXIMUM_EXTENTS)) break;
      extents.push({ length: count, status: extent.status });
    }
    covered += count;
    looks += 1;
    if (covered === length || looks === MAXIMUM_LOOKS) break;
  }
  return { id, extents };
}

/** Ranges that are in order and apart, as stretches of 1 with 0 between them, up to the end. */
export async function* marked(
  ranges: AsyncIterable<{ offset: number; length: number }>,
  offset: number,
  end: number,
): AsyncGenerator<StatusExtent> {
  let position = offset;
  for await (const range of ranges) {
    if (range.offset > position) yield { length: range.offset - position, status: 0 };
    yield { length: range.length, status: 1 };
    position = range.offset + range.length;
  }
  if (position < end) yield { length: end - position, status: 0 };
}
