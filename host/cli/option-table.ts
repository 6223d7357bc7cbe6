/** The options of a verb as a table: names, values, and what the help says of them. */

/** One option. `T` is what the verb gets for it. */
export interface Option<T> {
  /** Letters; all mean the same. */
  readonly shorts: readonly string[];
  /** Names without their dashes; all mean the same. */
  readonly longs: readonly string[];
  /** What its argument is called in the help; undefined when it needs none. */
  readonly argument: string | undefined;
  /** Without `argument`: what may stand behind a "=" of its long name; `next` gets an empty text when nothing does. */
  readonly attached?: { readonly argument: string; readonly words: readonly string[] };
  /** A line of the help; undefined: not shown there. */
  readonly about: string | undefined;
  /** The value before it was given. */
  readonly initial: T;
  /** The value once it was given. Throws `CommandError` for an argument that it refuses. */
  next(earlier: T, argument: string): T;
}

/** A verb's options by the names that its code has for them. */
// biome-ignore lint/suspicious/noExplicitAny: each option has a type of its own
export type OptionTable = Readonly<Record<string, Option<any>>>;

/** What a verb gets for its table. */
export type OptionValues<Table extends OptionTable> = {
  readonly [Name in keyof Table]: Table[Name] extends Option<infer Value> ? Value : never;
};

/** `-q, --quiet`: given or not. */
export function flag(names: string, about?: string): Option<boolean> {
  return { ...parseNames(names), about, initial: false, next: () => true };
}

/** `-f, --format FMT`: a text; the last one counts. */
export function text(names: string, about?: string): Option<string | undefined> {
  return value(names, about, (argument) => argument);
}

/** An option whose argument means something; the last one counts. */
export function value<T>(
  names: string,
  about: string | undefined,
  read: (argument: string) => T,
): Option<T | undefined> {
  return { ...parseNames(names), about, initial: undefined, next: (_, argument) => read(argument) };
}

/** An option that may be given several times. */
export function list(names: string, about?: string): Option<readonly string[]> {
  return { ...parseNames(names), about, initial: [], next: (earlier, argument) => [...earlier, argument] };
}

function parseNames(names: string): Pick<Option<unknown>, 'shorts' | 'longs' | 'argument'> {
  const [, argument] = / ([A-Z][\w|]*)$/.exec(names) ?? [];
  const longs = [...names.matchAll(/--([\w-]+)/g)].map(([, name]) => name as string);
  const shorts = [...names.matchAll(/(?:^|\s)-(\w)/g)].map(([, letter]) => letter as string);
  return { shorts, longs, argument };
}
