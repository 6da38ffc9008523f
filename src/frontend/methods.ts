/** @file Methods of arrays, strings and numbers; lib.ts declares the same to TypeScript. */
import { describe, isNullish, isSame, isTruthy } from "./describe.ts";
import { Absent, type Datum, type Native, NativeDatum } from "./values.ts";

type Method<T> = (self: T, ...rest: Parameters<Native>) => Datum;

/** A definition's strings have at most so many characters: they are names, not data. */
export const LONGEST_STRING = 10_000;

/** Methods that take the same time however long the array is. */
const BRIEF = new Set(["at", "pop", "push"]);

function methods<T>(
  table: Readonly<Record<string, Method<T>>>,
): ReadonlyMap<string, (self: T) => NativeDatum> {
  return new Map(
    Object.entries(table).map(([name, run]) => [
      name,
      (self: T) =>
        new NativeDatum(name, (args, context) => {
          if ((Array.isArray(self) || typeof self === "string") && !BRIEF.has(name))
            context.work(self.length >> 4);
          const result = run(self, args, context);
          if (typeof result === "string") checkLength(result.length, context);
          return result;
        }),
    ]),
  );
}

function checkLength(length: number, context: Context): void {
  if (length <= LONGEST_STRING) return;
  const limit = LONGEST_STRING.toLocaleString("en-US");
  context.fail(`the string would have ${length} characters`, `A definition's strings have at most ${limit}.`);
}

export type Context = Parameters<Native>[1];

export function numberAt(args: readonly Datum[], index: number, context: Context, fallback?: number): number {
  const datum = args[index];
  if (typeof datum === "number") return datum;
  if (isNullish(datum) && fallback !== undefined) return fallback;
  const why = datum instanceof Absent ? `: ${datum.reason}` : `, not ${describe(datum)}`;
  return context.fail(`argument ${index + 1} must be a number${why}`, undefined, context.argumentNode(index));
}

export function textAt(args: readonly Datum[], index: number, context: Context, fallback?: string): string {
  const datum = args[index];
  if (typeof datum === "string") return datum;
  if (isNullish(datum) && fallback !== undefined) return fallback;
  return context.fail(
    `argument ${index + 1} must be a string, not ${describe(datum)}`,
    undefined,
    context.argumentNode(index),
  );
}

export function listOf(datum: Datum, context: Context, index = 0): readonly Datum[] {
  if (!Array.isArray(datum)) {
    const why = datum instanceof Absent ? `: ${datum.reason}` : `, not ${describe(datum)}`;
    return context.fail(
      `argument ${index + 1} must be an array${why}`,
      undefined,
      context.argumentNode(index),
    );
  }
  context.work(datum.length);
  return datum;
}

/** Calls the first argument on every element. */
export function each(self: readonly Datum[], args: readonly Datum[], context: Context): Datum[] {
  context.work(self.length);
  const loop = context.loop();
  const results = self.map((item, i) => {
    loop.iterate();
    return context.call(args[0], [item, i]);
  });
  loop.close();
  return results;
}

function findIndex(self: readonly Datum[], args: readonly Datum[], context: Context): number {
  context.work(self.length);
  return self.findIndex((item, i) => isTruthy(context.call(args[0], [item, i])));
}

function sorted(self: readonly Datum[], args: readonly Datum[], context: Context): Datum[] {
  context.work(self.length * 8);
  if (isNullish(args[0])) {
    if (self.every((item) => typeof item === "string")) return [...self].sort();
    return context.fail("sort needs a comparison", "Write: sort((a, b) => a - b)");
  }
  return [...self].sort((a, b) => {
    const order = context.call(args[0], [a, b]);
    return typeof order === "number" ? order : context.fail("the comparison of sort must return a number");
  });
}

function reduce(self: readonly Datum[], args: readonly Datum[], context: Context): Datum {
  context.work(self.length);
  if (args.length < 2 && self.length === 0)
    context.fail("reduce of an empty array needs a value to start from");
  const [first, from] = args.length < 2 ? [self[0], 1] : [args[1], 0];
  const loop = context.loop();
  const result = self.slice(from).reduce((total: Datum, item, i) => {
    loop.iterate();
    return context.call(args[0], [total, item, i + from]);
  }, first);
  loop.close();
  return result;
}

function flatten(self: readonly Datum[], depth: number, context: Context): Datum[] {
  context.work(self.length);
  return self.flatMap((item) =>
    Array.isArray(item) && depth > 0 ? flatten(item, depth - 1, context) : [item],
  );
}

const includes = (self: readonly Datum[], wanted: Datum): boolean =>
  self.some((item) => isSame(item, wanted) || (Number.isNaN(item) && Number.isNaN(wanted)));

/** Replaces what `self` holds: for the methods that change an array in place. */
function refill(self: Datum[], items: readonly Datum[]): Datum[] {
  self.length = 0;
  for (const item of items) self.push(item);
  return self;
}

export const arrayMethods = methods<Datum[]>({
  at: (self, args, context) => self.at(numberAt(args, 0, context)),
  concat: (self, args, context) => {
    const all = [...self, ...args.flatMap((item) => (Array.isArray(item) ? item : [item]))];
    context.work(all.length);
    return all;
  },
  entries: (self) => self.map((item, i): Datum => [i, item]),
  every: (self, args, context) => each(self, args, context).every(isTruthy),
  fill: (self, [item], context) => {
    context.work(self.length);
    return self.fill(item);
  },
  filter: (self, args, context) => {
    const kept = each(self, args, context);
    return self.filter((_, i) => isTruthy(kept[i]));
  },
  find: (self, args, context) => self[findIndex(self, args, context)],
  findIndex,
  flat: (self, args, context) => flatten(self, numberAt(args, 0, context, 1), context),
  flatMap: (self, args, context) => flatten(each(self, args, context), 1, context),
  forEach: (self, args, context) => {
    each(self, args, context);
    return undefined;
  },
  includes: (self, [item]) => includes(self, item),
  indexOf: (self, [wanted]) => self.findIndex((item) => isSame(item, wanted)),
  join: (self, args, context) => {
    const separator = textAt(args, 0, context, ",");
    const parts = self.map((item) => {
      if (isNullish(item)) return "";
      return typeof item === "object" ? context.fail(`${describe(item)} can't be joined`) : String(item);
    });
    checkLength(
      parts.reduce((total, part) => total + part.length + separator.length, 0),
      context,
    );
    return parts.join(separator);
  },
  keys: (self) => self.map((_, i) => i),
  map: each,
  pop: (self) => self.pop(),
  push: (self, args) => self.push(...args),
  reduce,
  reverse: (self) => refill(self, [...self].reverse()),
  shift: (self) => self.shift(),
  slice: (self, args, context) => {
    context.work(self.length);
    return self.slice(numberAt(args, 0, context, 0), numberAt(args, 1, context, self.length));
  },
  some: (self, args, context) => each(self, args, context).some(isTruthy),
  sort: (self, args, context) => refill(self, sorted(self, args, context)),
  toReversed: (self) => [...self].reverse(),
  toSorted: sorted,
  unshift: (self, args, context) => {
    context.work(self.length);
    return self.unshift(...args);
  },
  values: (self) => [...self],
});

export const stringMethods = methods<string>({
  at: (self, args, context) => self.at(numberAt(args, 0, context)),
  endsWith: (self, args, context) => self.endsWith(textAt(args, 0, context)),
  includes: (self, args, context) => self.includes(textAt(args, 0, context)),
  indexOf: (self, args, context) => self.indexOf(textAt(args, 0, context)),
  replace: (self, args, context) => self.replace(textAt(args, 0, context), () => textAt(args, 1, context)),
  slice: (self, args, context) =>
    self.slice(numberAt(args, 0, context, 0), numberAt(args, 1, context, self.length)),
  split: (self, args, context) => self.split(textAt(args, 0, context)),
  startsWith: (self, args, context) => self.startsWith(textAt(args, 0, context)),
  toLowerCase: (self) => self.toLowerCase(),
  toUpperCase: (self) => self.toUpperCase(),
  trim: (self) => self.trim(),
});

export const numberMethods = methods<number>({
  toFixed: (self, args, context) => {
    const digits = numberAt(args, 0, context, 0);
    return digits >= 0 && digits <= 20 ? self.toFixed(digits) : context.fail("toFixed takes 0 to 20 digits");
  },
  toString: (self: number) => String(self),
});
