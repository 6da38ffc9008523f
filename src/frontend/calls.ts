/** @file Calls: functions and methods, `super`, `new`, and the optional chains that calls are part of. */
import { ts } from "ts-morph";
import { constructors } from "./builtins.ts";
import { construct, initialise, initialiseFields } from "./classes.ts";
import { isNullish } from "./describe.ts";
import type { Machine } from "./machine.ts";
import { methodOf, readMember } from "./members.ts";
import { itemsOf } from "./patterns.ts";
import { NAME_STRENGTH } from "./trace.ts";
import { ClassDatum, type Datum, InstanceDatum, NativeDatum, type Scope, TensorDatum } from "./values.ts";

const K = ts.SyntaxKind;

/** What a short-circuited `?.` makes of the whole chain behind it. */
export const SHORT = new NativeDatum("?.", null);

/** Evaluates a link of an optional chain; the last link turns a short circuit into undefined. */
export function chained(node: ts.Expression, evaluate: () => Datum): Datum {
  const datum = evaluate();
  if (datum !== SHORT) return datum;
  const { parent } = node;
  const goesOn = ts.isOptionalChain(parent) && parent.expression === node;
  return goesOn ? SHORT : undefined;
}

export function link(
  machine: Machine,
  node: { expression: ts.Expression; questionDotToken?: ts.Node | undefined },
  scope: Scope,
) {
  const object = machine.evaluate(node.expression, scope);
  return object !== SHORT && node.questionDotToken && isNullish(object) ? SHORT : object;
}

export function superMethod(machine: Machine, node: ts.PropertyAccessExpression, scope: Scope) {
  const receiver = scope.enclosing();
  const base = receiver?.home?.base;
  const method = base && methodOf(base, node.name.text);
  if (!method) return machine.fail(node, `there is no "${node.name.text}" in a base class`);
  return { self: receiver.self, method };
}

export function argumentsOf(
  machine: Machine,
  nodes: readonly ts.Expression[] | undefined,
  scope: Scope,
): Datum[] {
  const args: Datum[] = [];
  for (const node of nodes ?? []) {
    if (ts.isSpreadElement(node)) {
      for (const item of itemsOf(machine, machine.evaluate(node.expression, scope), node)) args.push(item);
    } else args.push(machine.evaluate(node, scope));
  }
  return args;
}

export function callExpression(machine: Machine, node: ts.CallExpression, scope: Scope): Datum {
  const { expression: callee } = node;
  if (callee.kind === K.SuperKeyword) return superCall(machine, node, scope);
  if (callee.kind === K.ImportKeyword) {
    machine.fail(node, "import() is not available in a definition", "Import at the top of the file.");
  }
  return chained(node, () => {
    if (!ts.isPropertyAccessExpression(callee)) {
      const called = link(machine, node, scope);
      return called === SHORT
        ? SHORT
        : machine.call(called, argumentsOf(machine, node.arguments, scope), node);
    }
    if (callee.expression.kind === K.SuperKeyword) {
      const { self, method } = superMethod(machine, callee, scope);
      return machine.call(method, argumentsOf(machine, node.arguments, scope), node, self);
    }
    const object = link(machine, callee, scope);
    if (object === SHORT) return SHORT;
    const method = readMember(machine, object, callee.name.text, callee.name);
    if (node.questionDotToken && isNullish(method)) return SHORT;
    const result = machine.call(method, argumentsOf(machine, node.arguments, scope), node, object);
    nameByField(machine, callee, object, result);
    return result;
  });
}

/** What `this.q_proj.forward(x)` returns is called `q_proj`, unless it has a better name. */
function nameByField(
  machine: Machine,
  callee: ts.PropertyAccessExpression,
  object: Datum,
  result: Datum,
): void {
  if (!(object instanceof InstanceDatum) || !(result instanceof TensorDatum)) return;
  if (!ts.isPropertyAccessExpression(callee.expression)) return;
  machine.trace?.wish(result.value, callee.expression.name.text, NAME_STRENGTH.field);
}

function superCall(machine: Machine, node: ts.CallExpression, scope: Scope): Datum {
  const receiver = scope.enclosing();
  if (!(receiver?.self instanceof InstanceDatum) || !receiver.home?.base) {
    return machine.fail(node, "super(...) belongs in the constructor of a class that extends another");
  }
  const { self, home } = receiver;
  const args = argumentsOf(machine, node.arguments, scope);
  machine.calling(node, () => initialise(machine, receiver.home?.base as ClassDatum, self, args, node));
  initialiseFields(machine, home, self);
  return undefined;
}

export function newExpression(machine: Machine, node: ts.NewExpression, scope: Scope): Datum {
  const name = ts.isIdentifier(node.expression) ? node.expression.text : "";
  const native = scope.find(name) ? undefined : constructors.get(name);
  if (native) {
    const args = argumentsOf(machine, node.arguments, scope);
    return machine.call(new NativeDatum(`new ${name}`, native), args, node);
  }
  const cls = machine.evaluate(node.expression, scope);
  if (!(cls instanceof ClassDatum))
    return machine.mismatch(cls, node.expression, "what stands behind new", "a class");
  return construct(machine, cls, argumentsOf(machine, node.arguments, scope), node);
}
