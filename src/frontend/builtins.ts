/** @file The part of JavaScript's library that a definition may use. lib.d.ts declares the same to TypeScript. */
import { describe, isNullish, isSame, isTruthy } from "./describe.ts";
import {
  Absent,
  type Datum,
  ErrorDatum,
  InstanceDatum,
  type Native,
  NativeDatum,
  RecordDatum,
} from "./values.ts";

type Method<T> = (self: T, ...rest: Parameters<Native>) => Datum;

function methods<T>(
  table: Readonly<Record<string, Method<T>>>,
): ReadonlyMap<string, (self: T) => NativeDatum> {
  return new Map(
    Object.entries(table).map(([name, run]) => [
      name,
      (self: T) => new NativeDatum(name, (args, context) => run(self, args, context)),
    ]),
  );
}

type Context = Parameters<Native>[1];

function numberAt(args: readonly Datum[], index: number, context: Context, fallback?: number): number {
  const datum = args[index];
  if (typeof datum === "number") return datum;
  if (isNullish(datum) && fallback !== undefined) return fallback;
  const why = datum instanceof Absent ? `: ${datum.reason}` : `, not ${describe(datum)}`;
  return context.fail(`argument ${index + 1} must be a number${why}`, undefined, context.argumentNode(index));
}

function textAt(args: readonly Datum[], index: number, context: Context, fallback?: string): string {
  const datum = args[index];
  if (typeof datum === "string") return datum;
  if (isNullish(datum) && fallback !== undefined) return fallback;
  return context.fail(
    `argument ${index + 1} must be a string, not ${describe(datum)}`,
    undefined,
    context.argumentNode(index),
  );
}

function listOf(datum: Datum, context: Context, index = 0): readonly Datum[] {
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
function each(self: readonly Datum[], args: readonly Datum[], context: Context): Datum[] {
  context.work(self.length);
  return self.map((item, i) => context.call(args[0], [item, i, [...self]]));
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
  return self
    .slice(from)
    .reduce((total: Datum, item, i) => context.call(args[0], [total, item, i + from]), first);
}

function flatten(self: readonly Datum[], depth: number): Datum[] {
  return self.flatMap((item) => (Array.isArray(item) && depth > 0 ? flatten(item, depth - 1) : [item]));
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
  flat: (self, args, context) => {
    const all = flatten(self, numberAt(args, 0, context, 1));
    context.work(all.length);
    return all;
  },
  flatMap: (self, args, context) => flatten(each(self, args, context), 1),
  forEach: (self, args, context) => {
    each(self, args, context);
    return undefined;
  },
  includes: (self, [item]) => includes(self, item),
  indexOf: (self, [wanted]) => self.findIndex((item) => isSame(item, wanted)),
  join: (self, args, context) =>
    self
      .map((item) =>
        isNullish(item)
          ? ""
          : typeof item === "object"
            ? context.fail(`${describe(item)} can't be joined`)
            : String(item),
      )
      .join(textAt(args, 0, context, ",")),
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

const MATH_FUNCTIONS = [
  "abs",
  "acos",
  "asin",
  "atan",
  "atan2",
  "cbrt",
  "ceil",
  "cos",
  "cosh",
  "exp",
  "floor",
  "fround",
  "hypot",
  "log",
  "log10",
  "log1p",
  "log2",
  "max",
  "min",
  "pow",
  "round",
  "sign",
  "sin",
  "sinh",
  "sqrt",
  "tan",
  "tanh",
  "trunc",
] as const;
const MATH_CONSTANTS = ["E", "LN10", "LN2", "LOG10E", "LOG2E", "PI", "SQRT1_2", "SQRT2"] as const;

function mathematics(): NativeDatum {
  const members = new Map<string, Datum>(MATH_CONSTANTS.map((name) => [name, Math[name]]));
  for (const name of MATH_FUNCTIONS) {
    const compute = Math[name] as (...args: number[]) => number;
    members.set(
      name,
      new NativeDatum(`Math.${name}`, (args, context) =>
        compute(...args.map((_, i) => numberAt(args, i, context))),
      ),
    );
  }
  return new NativeDatum("Math", null, members);
}

/** The entries of an object literal, of the configuration, or of an instance's fields. */
function entriesOf(datum: Datum, context: Context): [string, Datum][] {
  if (!(datum instanceof RecordDatum) && !(datum instanceof InstanceDatum)) {
    return context.fail(
      `argument 1 must be an object, not ${describe(datum)}`,
      undefined,
      context.argumentNode(0),
    );
  }
  context.work(datum.fields.size);
  return [...datum.fields];
}

function native(
  name: string,
  run: Native | null,
  members: Readonly<Record<string, Native | Datum>> = {},
): NativeDatum {
  return new NativeDatum(
    name,
    run,
    new Map(
      Object.entries(members).map(([key, member]) => [
        key,
        typeof member === "function" ? new NativeDatum(`${name}.${key}`, member) : member,
      ]),
    ),
  );
}

/** `Array.from([...])` or `Array.from({ length })`, with an optional function of element and index. */
const arrayFrom: Native = (args, context) => {
  const [source, make] = args;
  if (Array.isArray(source))
    return isNullish(make) ? [...listOf(source, context)] : each(source, [make], context);
  const length = source instanceof RecordDatum ? source.fields.get("length") : undefined;
  const missing = source instanceof RecordDatum && isNullish(length);
  if (typeof length !== "number" || !Number.isInteger(length) || length < 0) {
    const why = length instanceof Absent ? length.reason : describe(missing ? undefined : (length ?? source));
    return context.fail(
      `Array.from needs an array or { length: a whole number }; here it is ${why}`,
      length instanceof Absent ? length.remedy : undefined,
      context.argumentNode(0),
    );
  }
  context.work(length);
  return Array.from({ length }, (_, i) => (isNullish(make) ? undefined : context.call(make, [undefined, i])));
};

/** Names that every definition sees without importing them. */
export const globals: ReadonlyMap<string, Datum> = new Map<string, Datum>([
  ["undefined", undefined],
  ["NaN", Number.NaN],
  ["Infinity", Number.POSITIVE_INFINITY],
  ["Math", mathematics()],
  [
    "Array",
    native("Array", null, {
      from: arrayFrom,
      isArray: ([datum]) => Array.isArray(datum),
      of: (args) => [...args],
    }),
  ],
  [
    "Object",
    native("Object", null, {
      keys: ([datum], context) => entriesOf(datum, context).map(([key]) => key),
      values: ([datum], context) => entriesOf(datum, context).map(([, item]) => item),
      entries: ([datum], context) => entriesOf(datum, context).map(([key, item]): Datum => [key, item]),
      fromEntries: ([datum], context) =>
        new RecordDatum(
          new Map(
            listOf(datum, context).map((entry): [string, Datum] => {
              if (Array.isArray(entry) && typeof entry[0] === "string") return [entry[0], entry[1]];
              return context.fail("Object.fromEntries needs pairs of a string and a value");
            }),
          ),
        ),
    }),
  ],
  [
    "Number",
    native(
      "Number",
      ([datum], context) =>
        typeof datum === "string" || typeof datum === "number" || typeof datum === "boolean"
          ? Number(datum)
          : context.fail(`${describe(datum)} can't be made a number`),
      {
        isInteger: ([datum]) => Number.isInteger(datum),
        isFinite: ([datum]) => Number.isFinite(datum),
        isNaN: ([datum]) => Number.isNaN(datum),
        MAX_SAFE_INTEGER: Number.MAX_SAFE_INTEGER,
        EPSILON: Number.EPSILON,
      },
    ),
  ],
  [
    "String",
    native("String", ([datum], context) =>
      typeof datum === "object" && datum !== null
        ? context.fail(`${describe(datum)} can't be made a string`)
        : String(datum),
    ),
  ],
  ["Boolean", native("Boolean", ([datum]) => isTruthy(datum))],
]);

/** `new Error("...")` and `new Array(n)`: what can be made of names that are not classes of the definition. */
export const constructors: ReadonlyMap<string, Native> = new Map<string, Native>([
  ["Error", (args, context) => new ErrorDatum(textAt(args, 0, context, "the definition throws an error"))],
  [
    "RangeError",
    (args, context) => new ErrorDatum(textAt(args, 0, context, "the definition throws an error")),
  ],
  [
    "TypeError",
    (args, context) => new ErrorDatum(textAt(args, 0, context, "the definition throws an error")),
  ],
  [
    "Array",
    (args, context) => {
      const length = numberAt(args, 0, context, 0);
      if (!Number.isInteger(length) || length < 0) context.fail(`an array can't have ${length} elements`);
      context.work(length);
      return Array.from({ length }, () => undefined);
    },
  ],
]);
