/** @file Names that every definition sees, such as `Math` and `Array`; lib.ts declares the same to TypeScript. */
import { describe, isNullish, isTruthy } from "./describe.ts";
import { type Context, each, listOf, numberAt, textAt } from "./methods.ts";
import {
  Absent,
  type Datum,
  ErrorDatum,
  InstanceDatum,
  type Native,
  NativeDatum,
  RecordDatum,
} from "./values.ts";

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
