/** @file Giving names to values: declarations, destructuring, assignment. */
import { ts } from "ts-morph";
import { describe, isNullish, isUndefined } from "./describe.ts";
import type { Machine } from "./machine.ts";
import { readMember, writeElement, writeMember } from "./members.ts";
import { NAME_STRENGTH } from "./trace.ts";
import { Absent, type Datum, RecordDatum, type Scope, TensorDatum } from "./values.ts";

/** Declares the names of `pattern` in `scope`. A tensor takes the name of the first variable that holds it. */
export function declare(
  machine: Machine,
  pattern: ts.BindingName,
  datum: Datum,
  scope: Scope,
  { constant = false, names = true }: { constant?: boolean; names?: boolean } = {},
): void {
  if (ts.isIdentifier(pattern)) {
    if (names) nameTensor(machine, datum, pattern.text, pattern);
    scope.declare(pattern.text, datum, constant);
    return;
  }
  const bind = (element: ts.BindingElement, found: Datum): void => {
    const given =
      isUndefined(found) && element.initializer ? machine.evaluate(element.initializer, scope) : found;
    declare(machine, element.name, given, scope, { constant, names });
  };
  if (ts.isArrayBindingPattern(pattern)) {
    const items = itemsOf(machine, datum, pattern);
    pattern.elements.forEach((element, i) => {
      if (ts.isOmittedExpression(element)) return;
      bind(element, element.dotDotDotToken ? items.slice(i) : itemAt(items, i));
    });
    return;
  }
  const taken = new Set<string>();
  for (const element of pattern.elements) {
    if (element.dotDotDotToken) bind(element, restOf(machine, datum, taken, pattern));
    else {
      const name = propertyName(machine, element.propertyName ?? (element.name as ts.Identifier), scope);
      taken.add(name);
      bind(element, readFrom(machine, datum, name, element));
    }
  }
}

/** Gives a tensor the name of a variable; our own files' variables count less than those of a model. */
export function nameTensor(machine: Machine, datum: Datum, name: string, node: ts.Node): void {
  if (!(datum instanceof TensorDatum)) return;
  const strength = machine.isLibrary(node) ? NAME_STRENGTH.library : NAME_STRENGTH.variable;
  machine.trace?.wish(datum.value, name, strength);
}

/** The elements that `[a, b]`, `...` and `for of` take from a datum. */
export function itemsOf(machine: Machine, datum: Datum, node: ts.Node): readonly Datum[] {
  if (!Array.isArray(datum)) machine.mismatch(datum, node, "what is taken apart here", "an array");
  machine.work(node, datum.length);
  return datum;
}

function itemAt(items: readonly Datum[], index: number): Datum {
  return index < items.length
    ? items[index]
    : new Absent(`there is no element ${index} of an array of ${items.length}`);
}

function readFrom(machine: Machine, datum: Datum, name: string, node: ts.Node): Datum {
  if (isNullish(datum)) {
    if (datum instanceof Absent) machine.fail(node, `"${name}" can't be read: ${datum.reason}`, datum.remedy);
    machine.fail(node, `"${name}" can't be read from ${describe(datum)}`);
  }
  return readMember(machine, datum, name, node);
}

function restOf(machine: Machine, datum: Datum, taken: ReadonlySet<string>, node: ts.Node): Datum {
  if (!(datum instanceof RecordDatum))
    return machine.mismatch(datum, node, "what is taken apart here", "an object");
  machine.work(node, datum.fields.size);
  return new RecordDatum(new Map([...datum.fields].filter(([name]) => !taken.has(name))), datum.origin);
}

/** The name that stands in front of a colon, computed where it is in brackets. */
export function propertyName(machine: Machine, name: ts.PropertyName, scope: Scope): string {
  if (
    ts.isIdentifier(name) ||
    ts.isStringLiteralLike(name) ||
    ts.isNumericLiteral(name) ||
    ts.isPrivateIdentifier(name)
  ) {
    return name.text;
  }
  if (!ts.isComputedPropertyName(name)) return machine.unsupported(name);
  const key = machine.evaluate(name.expression, scope);
  if (typeof key === "string" || typeof key === "number") return String(key);
  return machine.mismatch(key, name.expression, "a key", "a string or a number");
}

/** `target = datum`, the target being a variable, a member, or a pattern of them. */
export function assign(machine: Machine, target: ts.Expression, datum: Datum, scope: Scope): void {
  if (ts.isIdentifier(target)) {
    const binding = scope.find(target.text);
    if (!binding) machine.fail(target, `"${target.text}" is not declared`, `Write: let ${target.text} = ...`);
    if (binding.constant) machine.fail(target, `"${target.text}" is a constant`, "Declare it with let.");
    nameTensor(machine, datum, target.text, target);
    binding.datum = datum;
    binding.ready = true;
  } else if (ts.isPropertyAccessExpression(target)) {
    writeMember(machine, machine.evaluate(target.expression, scope), target.name.text, datum, target);
  } else if (ts.isElementAccessExpression(target)) {
    const object = machine.evaluate(target.expression, scope);
    writeElement(machine, object, machine.evaluate(target.argumentExpression, scope), datum, target);
  } else if (ts.isArrayLiteralExpression(target)) {
    const items = itemsOf(machine, datum, target);
    target.elements.forEach((element, i) => {
      if (ts.isOmittedExpression(element)) return;
      if (ts.isSpreadElement(element)) assign(machine, element.expression, items.slice(i), scope);
      else assignWithDefault(machine, element, itemAt(items, i), scope);
    });
  } else if (ts.isObjectLiteralExpression(target)) assignObject(machine, target, datum, scope);
  else if (
    ts.isParenthesizedExpression(target) ||
    ts.isNonNullExpression(target) ||
    ts.isAsExpression(target)
  ) {
    assign(machine, target.expression, datum, scope);
  } else machine.unsupported(target);
}

function assignWithDefault(machine: Machine, target: ts.Expression, datum: Datum, scope: Scope): void {
  if (!ts.isBinaryExpression(target)) assign(machine, target, datum, scope);
  else
    assign(machine, target.left, isUndefined(datum) ? machine.evaluate(target.right, scope) : datum, scope);
}

function assignObject(
  machine: Machine,
  target: ts.ObjectLiteralExpression,
  datum: Datum,
  scope: Scope,
): void {
  for (const property of target.properties) {
    if (ts.isPropertyAssignment(property)) {
      const name = propertyName(machine, property.name, scope);
      assignWithDefault(machine, property.initializer, readFrom(machine, datum, name, property), scope);
    } else if (ts.isShorthandPropertyAssignment(property)) {
      const found = readFrom(machine, datum, property.name.text, property);
      const fallback = property.objectAssignmentInitializer;
      assign(
        machine,
        property.name,
        isUndefined(found) && fallback ? machine.evaluate(fallback, scope) : found,
        scope,
      );
    } else machine.unsupported(property);
  }
}
