/** @file What "ithaca/nn" declares: the ops that a model may use, as functions of a definition, and `parameter`. */
import { ts } from "ts-morph";
import type { AttrValue, Value } from "../ir/graph.ts";
import { suggestion } from "../ir/nearest.ts";
import type { OpDefinition } from "../ir/op.ts";
import { isOpName, opNames, recordOf } from "../ir/ops/index.ts";
import { describe, isUndefined } from "./describe.ts";
import type { Machine } from "./machine.ts";
import {
  Absent,
  type Datum,
  type NativeContext,
  NativeDatum,
  ParameterDatum,
  RecordDatum,
  TensorDatum,
} from "./values.ts";

/** Differentiable ops that passes insert: layout, memory and precision are not a model's to decide. */
const PASSES_OWN = new Set([
  "all_to_all",
  "all_gather",
  "reduce_scatter",
  "all_reduce",
  "offload",
  "reload",
  "spill",
  "fetch",
  "cast",
]);

/** Whether a definition may call the op. */
export function isForModels({ name, gradient }: OpDefinition): boolean {
  return gradient !== null && !PASSES_OWN.has(name);
}

/** The ops of a model, in the order of the vocabulary. */
export const modelOps: readonly OpDefinition[] = opNames.map(recordOf).filter(isForModels);

/** Attributes whose default is only a placeholder, or that everyone expects to be something else. */
const REQUIRED: Readonly<Record<string, readonly string[]>> = {
  scale: ["by"],
  sum: ["dims"],
  broadcast: ["dims", "sizes"],
  constant: ["value", "dims"],
  split_heads: ["heads"],
  transpose: ["order"],
  slice: ["dim", "start", "length"],
  pad: ["dim", "start", "size"],
  concat: ["dim"],
  rope_table: ["head_dim"],
  attention: ["scale"],
};

/** Attributes that may have a fraction; the others count something. */
const FRACTIONAL = new Set([
  "by",
  "value",
  "epsilon",
  "theta",
  "factor",
  "low_freq_factor",
  "high_freq_factor",
  "scale",
  "softcap",
]);

/** An op counts as so many steps: no definition makes more nodes than the passes can take. */
const OP_STEPS = 20;

export interface ModelAttribute {
  readonly name: string;
  readonly fallback: AttrValue;
  readonly required: boolean;
}

/** Attributes that passes set: a definition has one element type, one direction and no ranks. */
const INTERNAL = new Set(["dtype", "inverse", "packed", "partial"]);

/** The attributes that a definition may give. Element types are not among them: a pass lowers precision. */
export function attributesOf(record: OpDefinition): ModelAttribute[] {
  const required = REQUIRED[record.name] ?? [];
  return Object.entries(record.attrs)
    .filter(([name]) => !isOpName(record.name) || !INTERNAL.has(name))
    .map(([name, fallback]) => ({ name, fallback, required: required.includes(name) }));
}

/** The results that a definition sees. The log-sum-exp is kept for the gradient alone. */
export function resultsOf(record: OpDefinition): readonly string[] {
  return record.results.filter((name) => !isOpName(record.name) || name !== "lse");
}

const isVariadic = (record: OpDefinition): boolean => record.operands.at(-1)?.startsWith("...") ?? false;

/** Every function of the compiler, by name: the ops, and `parameter`. `range` is the standard deviation of "normal". */
export function nativesOf(
  machine: () => Machine,
  ops: readonly OpDefinition[],
  range: number,
): ReadonlyMap<string, NativeDatum> {
  const natives = ops.map(
    (record) => new NativeDatum(record.name, (args, context) => runOp(machine(), record, args, context)),
  );
  natives.push(
    new NativeDatum("parameter", (args, context) => makeParameter(machine(), args, context, range)),
  );
  return new Map(natives.map((native) => [native.name, native]));
}

function runOp(
  machine: Machine,
  record: OpDefinition,
  args: readonly Datum[],
  context: NativeContext,
): Datum {
  const { trace } = machine;
  if (!trace) {
    return context.fail(
      `${record.name} computes with tensors, which there are only in forward`,
      "Constructors make parameters and modules; call ops in forward.",
    );
  }
  const count = record.operands.length;
  const attributes = attributesOf(record);
  const most = count + (attributes.length > 0 ? 1 : 0);
  if (args.length < count || args.length > most) {
    const names = [
      ...record.operands.map((name) => (isVariadic(record) ? "[...]" : name)),
      ...(attributes.length > 0 ? ["{ ... }"] : []),
    ];
    const wanted = most === count ? `${count}` : `${count} or ${most}`;
    context.fail(
      `${record.name} takes ${wanted} ${wanted === "1" ? "argument" : "arguments"}, not ${args.length}`,
      `It is called as ${record.name}(${names.join(", ")}).`,
    );
  }
  const operands = isVariadic(record)
    ? listOperands(record, args[0], context)
    : record.operands.map((name, i) => operandOf(record, name, args[i], context, i));
  context.work(OP_STEPS);
  const attrs = readAttributes(record, attributes, args[count], context, count);
  const results = trace.add(record, operands, attrs, machine.lineOf(context.node));
  const seen = resultsOf(record);
  if (seen.length === 1) return new TensorDatum(results[0]);
  return new RecordDatum(
    new Map(seen.map((name) => [name, new TensorDatum(results[record.results.indexOf(name)])])),
    `the result of ${record.name}`,
  );
}

function listOperands(record: OpDefinition, datum: Datum, context: NativeContext): Value[] {
  if (!Array.isArray(datum) || datum.length === 0) {
    return context.fail(
      `${record.name} takes an array of tensors, not ${describe(datum)}`,
      undefined,
      context.argumentNode(0),
    );
  }
  return datum.map((item, i) => operandOf(record, `element ${i}`, item, context, 0));
}

function operandOf(
  record: OpDefinition,
  name: string,
  datum: Datum,
  context: NativeContext,
  index: number,
): Value {
  const node = context.argumentNode(index);
  if (datum instanceof TensorDatum) return datum.value;
  if (datum instanceof ParameterDatum) {
    if (datum.value) return datum.value;
    return context.fail(
      "this parameter has no name, because no field of the model holds it",
      "Keep it in a field of a module: this.weight = parameter([...]).",
      node,
    );
  }
  if (datum instanceof Absent) {
    return context.fail(
      `${name} of ${record.name} must be a tensor, but ${datum.reason}`,
      datum.remedy,
      node,
    );
  }
  const remedy =
    typeof datum === "number" && record.name === "mul"
      ? `Use scale(x, { by: ${datum} }).`
      : typeof datum === "number"
        ? `A number becomes a tensor with constant({ value: ${datum}, dims: [...] }).`
        : undefined;
  return context.fail(`${name} of ${record.name} must be a tensor, not ${describe(datum)}`, remedy, node);
}

function readAttributes(
  record: OpDefinition,
  attributes: readonly ModelAttribute[],
  datum: Datum,
  context: NativeContext,
  index: number,
): Record<string, AttrValue> {
  const node = context.argumentNode(index);
  const given = isUndefined(datum) ? new RecordDatum(new Map()) : datum;
  if (!(given instanceof RecordDatum)) {
    return context.fail(
      `the last argument of ${record.name} holds its attributes, and is ${describe(datum)}`,
      `Write: { ${attributes.map(({ name }) => name).join(", ")} }`,
      node,
    );
  }
  const attrs: Record<string, AttrValue> = {};
  for (const [name, value] of given.fields) {
    const place = propertyNode(node, name);
    const attribute = attributes.find((candidate) => candidate.name === name);
    if (!attribute) {
      const known = attributes.map((own) => own.name);
      const remedy = suggestion(name, known, `attributes of ${record.name}`);
      return context.fail(`${record.name} has no attribute "${name}"`, remedy, place);
    }
    if (value instanceof Absent && attribute.required) {
      context.fail(`${record.name} needs ${name}, but ${value.reason}`, value.remedy, place);
    }
    if (!isUndefined(value)) attrs[name] = attributeValue(record, attribute, value, context, place);
  }
  for (const { name, required } of attributes) {
    if (required && attrs[name] === undefined) {
      const args = [...record.operands.map(() => "..."), `{ ${name}: ... }`];
      context.fail(`${record.name} needs the attribute ${name}`, `Write: ${record.name}(${args.join(", ")})`);
    }
  }
  return attrs;
}

/** Where `name` stands in an object literal; the whole expression if it is none. */
function propertyNode(node: ts.Node, name: string): ts.Node {
  if (!ts.isObjectLiteralExpression(node)) return node;
  return node.properties.find((property) => property.name?.getText() === name) ?? node;
}

function attributeValue(
  record: OpDefinition,
  { name, fallback }: ModelAttribute,
  datum: Datum,
  context: NativeContext,
  node: ts.Node,
): AttrValue {
  const refuse = (wanted: string, found = datum): never =>
    context.fail(`${name} of ${record.name} must be ${wanted}, not ${describe(found)}`, undefined, node);
  const isWhole = (value: Datum): value is number =>
    typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
  if (Array.isArray(fallback)) {
    if (!Array.isArray(datum)) return refuse("an array of whole numbers");
    return datum.map((item) => (isWhole(item) ? item : refuse("whole numbers of at least 0", item)));
  }
  if (typeof fallback === "number") {
    if (isOpName(record.name) && !FRACTIONAL.has(name))
      return isWhole(datum) ? datum : refuse("a whole number of at least 0");
    return typeof datum === "number" && Number.isFinite(datum) ? datum : refuse("a finite number");
  }
  if (typeof datum === "string" && typeof fallback === "string") return datum;
  if (typeof datum === "boolean" && typeof fallback === "boolean") return datum;
  return refuse(typeof fallback === "boolean" ? "true or false" : "a string");
}

function makeParameter(
  machine: Machine,
  args: readonly Datum[],
  context: NativeContext,
  range: number,
): Datum {
  if (machine.trace) {
    context.fail("a parameter is made in forward", "Make it in the constructor and keep it in a field.");
  }
  if (args.length < 1 || args.length > 2)
    context.fail(`parameter takes 1 or 2 arguments, not ${args.length}`);
  const [shape, init = "normal"] = args;
  const node = context.argumentNode(0);
  if (!Array.isArray(shape)) {
    return context.fail(
      `the shape of a parameter is an array, not ${describe(shape)}`,
      "Write: parameter([rows, columns])",
      node,
    );
  }
  const sizes = shape.map((size, i) => {
    if (typeof size === "number" && Number.isSafeInteger(size) && size > 0) return size;
    if (size instanceof Absent)
      context.fail(`size ${i} of a parameter is missing: ${size.reason}`, size.remedy, node);
    return context.fail(
      `size ${i} of a parameter is ${describe(size)}`,
      "Sizes are whole numbers of at least 1.",
      node,
    );
  });
  return new ParameterDatum(sizes, initOf(init, range, context), machine.placeOf(context.node));
}

function initOf(init: Datum, range: number, context: NativeContext): string {
  if (init === "zeros" || init === "ones") return init;
  if (init === "normal") return `normal ${range}`;
  const deviation = typeof init === "string" && /^normal (\S+)$/.exec(init);
  if (deviation && Number(deviation[1]) > 0) return `normal ${Number(deviation[1])}`;
  return context.fail(
    `a parameter can't begin as ${describe(init)}`,
    'Use "normal", "normal 0.02", "zeros" or "ones".',
    context.argumentNode(1),
  );
}
