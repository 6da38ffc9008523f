/** @file Operators on what is known: arithmetic, comparison, logic. On tensors they are refused, with the op to use. */
import { ts } from "ts-morph";
import { describe, isNullish, isSame, isTensor } from "./describe.ts";
import type { Machine } from "./machine.ts";
import { LONGEST_STRING } from "./methods.ts";
import { Absent, ClassDatum, type Datum, InstanceDatum, RecordDatum } from "./values.ts";

const K = ts.SyntaxKind;

const arithmetic: Partial<Record<ts.SyntaxKind, (a: number, b: number) => number>> = {
  [K.PlusToken]: (a, b) => a + b,
  [K.MinusToken]: (a, b) => a - b,
  [K.AsteriskToken]: (a, b) => a * b,
  [K.SlashToken]: (a, b) => a / b,
  [K.PercentToken]: (a, b) => a % b,
  [K.AsteriskAsteriskToken]: (a, b) => a ** b,
  [K.AmpersandToken]: (a, b) => a & b,
  [K.BarToken]: (a, b) => a | b,
  [K.CaretToken]: (a, b) => a ^ b,
  [K.LessThanLessThanToken]: (a, b) => a << b,
  [K.GreaterThanGreaterThanToken]: (a, b) => a >> b,
  [K.GreaterThanGreaterThanGreaterThanToken]: (a, b) => a >>> b,
};

const comparisons: Partial<Record<ts.SyntaxKind, <T extends number | string>(a: T, b: T) => boolean>> = {
  [K.LessThanToken]: (a, b) => a < b,
  [K.LessThanEqualsToken]: (a, b) => a <= b,
  [K.GreaterThanToken]: (a, b) => a > b,
  [K.GreaterThanEqualsToken]: (a, b) => a >= b,
};

const tensorOps: Partial<Record<ts.SyntaxKind, string>> = {
  [K.PlusToken]: "add(a, b)",
  [K.MinusToken]: "sub(a, b)",
  [K.AsteriskToken]: "mul(a, b), or scale(a, { by: 2 }) for a number",
  [K.SlashToken]: "div(a, b), or scale(a, { by: 0.5 }) for a number",
};

/** `+=` and its like: the operator that they apply. */
export const compoundOperators: Partial<Record<ts.SyntaxKind, ts.SyntaxKind>> = {
  [K.PlusEqualsToken]: K.PlusToken,
  [K.MinusEqualsToken]: K.MinusToken,
  [K.AsteriskEqualsToken]: K.AsteriskToken,
  [K.SlashEqualsToken]: K.SlashToken,
  [K.PercentEqualsToken]: K.PercentToken,
  [K.AsteriskAsteriskEqualsToken]: K.AsteriskAsteriskToken,
  [K.BarBarEqualsToken]: K.BarBarToken,
  [K.AmpersandAmpersandEqualsToken]: K.AmpersandAmpersandToken,
  [K.QuestionQuestionEqualsToken]: K.QuestionQuestionToken,
};

/** The two sides of an operator and where they stand. */
export interface Sides {
  readonly left: Datum;
  readonly right: Datum;
  readonly leftNode: ts.Node;
  readonly rightNode: ts.Node;
  /** The whole expression. */
  readonly node: ts.Node;
}

/** `left operator right`, both known already. */
export function applyBinary(machine: Machine, operator: ts.SyntaxKind, sides: Sides): Datum {
  const { left, right, leftNode, rightNode, node } = sides;
  switch (operator) {
    case K.EqualsEqualsEqualsToken:
      return isSame(left, right);
    case K.ExclamationEqualsEqualsToken:
      return !isSame(left, right);
    case K.EqualsEqualsToken:
    case K.ExclamationEqualsToken: {
      const equal = looselyEqual(machine, sides);
      return operator === K.EqualsEqualsToken ? equal : !equal;
    }
    case K.InKeyword:
      if (typeof left !== "string")
        return machine.mismatch(left, leftNode, "what stands before in", "a string");
      if (right instanceof RecordDatum || right instanceof InstanceDatum) return right.fields.has(left);
      return machine.mismatch(right, rightNode, "what stands behind in", "an object");
    case K.InstanceOfKeyword:
      if (!(right instanceof ClassDatum))
        machine.mismatch(right, rightNode, "what stands behind instanceof", "a class");
      return left instanceof InstanceDatum && [...left.class.chain()].includes(right);
  }
  const symbol = ts.tokenToString(operator) ?? "this operator";
  if (isTensor(left) || isTensor(right)) {
    const instead = tensorOps[operator];
    machine.fail(
      node,
      `${symbol} works on numbers, and ${isTensor(left) ? "its left side" : "its right side"} is ${describe(isTensor(left) ? left : right)}`,
      instead ? `Use ${instead}.` : "The elements of a tensor are not known when the model is compiled.",
    );
  }
  const compare = comparisons[operator];
  if (compare) {
    if (typeof left === "string" && typeof right === "string") return compare(left, right);
    return compare(
      machine.number(left, leftNode, `the left side of ${symbol}`),
      machine.number(right, rightNode, `the right side of ${symbol}`),
    );
  }
  if (operator === K.PlusToken && (typeof left === "string" || typeof right === "string")) {
    return limited(machine, textOf(machine, left, leftNode) + textOf(machine, right, rightNode), node);
  }
  const compute = arithmetic[operator];
  if (!compute) return machine.unsupported(node);
  return compute(
    machine.number(left, leftNode, `the left side of ${symbol}`),
    machine.number(right, rightNode, `the right side of ${symbol}`),
  );
}

/** `==`, which is allowed where it can't surprise: against null or undefined, and between values of one type. */
function looselyEqual(machine: Machine, { left, right, node }: Sides): boolean {
  if (isNullish(left) || isNullish(right)) return isNullish(left) && isNullish(right);
  if (typeof left === typeof right) return isSame(left, right);
  return machine.fail(
    node,
    `== would convert ${describe(left)} or ${describe(right)} to compare them`,
    "Use === instead.",
  );
}

/** A datum as text inside a template or beside `+`. */
export function textOf(machine: Machine, datum: Datum, node: ts.Node): string {
  machine.work(node);
  if (typeof datum === "string") return datum;
  if (typeof datum === "number" || typeof datum === "boolean" || datum === null) return String(datum);
  if (Array.isArray(datum)) return datum.map((item) => textOf(machine, item, node)).join(",");
  if (datum instanceof Absent || datum === undefined) return "undefined";
  return machine.mismatch(datum, node, "a part of a string", "a number, a string or a boolean");
}

export function limited(machine: Machine, text: string, node: ts.Node): string {
  if (text.length > LONGEST_STRING) {
    const limit = LONGEST_STRING.toLocaleString("en-US");
    machine.fail(
      node,
      `the string would have ${text.length} characters`,
      `A definition's strings have at most ${limit}.`,
    );
  }
  machine.work(node, text.length >> 4);
  return text;
}

/** `-x`, `+x`, `~x`; `!x` is with the expressions. */
export function applyUnary(machine: Machine, operator: ts.SyntaxKind, operand: Datum, node: ts.Node): Datum {
  if (isTensor(operand)) {
    machine.fail(
      node,
      `${ts.tokenToString(operator)} works on numbers, and this is ${describe(operand)}`,
      operator === K.MinusToken
        ? "Use neg(x)."
        : "The elements of a tensor are not known when the model is compiled.",
    );
  }
  if (operator === K.PlusToken && typeof operand === "string") return Number(operand);
  const number = machine.number(operand, node, `the operand of ${ts.tokenToString(operator)}`);
  if (operator === K.MinusToken) return -number;
  return operator === K.TildeToken ? ~number : number;
}
