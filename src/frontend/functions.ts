/** @file Calling: functions of the definition, methods, constructors, and what the compiler provides. */
import { ts } from "ts-morph";
import { describe } from "./describe.ts";
import type { Call, Machine } from "./machine.ts";
import { methodOf } from "./members.ts";
import { declare } from "./patterns.ts";
import {
  Absent,
  ClassDatum,
  type Datum,
  FunctionDatum,
  InstanceDatum,
  NativeDatum,
  type Receiver,
  Scope,
} from "./values.ts";

export const call: Call = (machine, callee, args, node, self) => {
  if (callee instanceof FunctionDatum) {
    const { node: code } = callee;
    const receiver = ts.isArrowFunction(code) ? null : { self, home: callee.home };
    return machine.calling(node, () =>
      runBody(machine, callee.name, code, callee.scope, receiver, args, node),
    );
  }
  if (callee instanceof NativeDatum && callee.run) {
    const { run } = callee;
    return machine.calling(node, () =>
      machine.placed(node, () =>
        run(args, {
          node,
          call: (inner, given) => machine.call(inner, wanted(inner, given), node),
          argumentNode: (index) => argumentOf(node, index),
          work: (steps) => machine.work(node, steps),
          loop: () => machine.trace?.loop(machine.lineOf(node)) ?? NO_LOOP,
          fail: (message, remedy, at) => machine.fail(at ?? node, message, remedy),
        }),
      ),
    );
  }
  if (callee instanceof ClassDatum) {
    machine.fail(node, `${callee.name} is a class`, `Write: new ${callee.name}(...)`);
  }
  if (callee instanceof InstanceDatum && methodOf(callee.class, "forward")) {
    machine.fail(node, `${describe(callee)} can't be called`, "Call its forward: x.forward(...)");
  }
  return machine.mismatch(callee, node, "what is called", "a function");
};

const NO_LOOP = { iterate: () => {}, close: () => {} };

/** A callback may take fewer arguments than `map` has for it. */
function wanted(callee: Datum, args: readonly Datum[]): readonly Datum[] {
  if (!(callee instanceof FunctionDatum)) return args;
  const { parameters } = callee.node;
  return parameters.at(-1)?.dotDotDotToken ? args : args.slice(0, parameters.length);
}

function argumentOf(node: ts.Node, index: number): ts.Node {
  const args = ts.isCallExpression(node) || ts.isNewExpression(node) ? node.arguments : undefined;
  return args?.[index] ?? node;
}

/** Runs a function's code in a new scope below `scope`. */
export function runBody(
  machine: Machine,
  name: string,
  code: ts.FunctionLikeDeclaration,
  scope: Scope,
  receiver: Receiver | null,
  args: readonly Datum[],
  node: ts.Node,
): Datum {
  refuseModifiers(machine, code);
  const inner = new Scope(scope, receiver);
  bindParameters(machine, name, code, args, inner, node);
  if (!code.body) return machine.unsupported(code);
  if (!ts.isBlock(code.body)) return machine.evaluate(code.body, inner);
  const completion = machine.execute(code.body, inner);
  return typeof completion === "object" ? completion.returned : undefined;
}

function refuseModifiers(machine: Machine, code: ts.FunctionLikeDeclaration): void {
  if (code.asteriskToken) machine.fail(code.asteriskToken, "generators are not supported in a definition");
  const modifiers = ts.canHaveModifiers(code) ? ts.getModifiers(code) : undefined;
  const async = modifiers?.find((modifier) => modifier.kind === ts.SyntaxKind.AsyncKeyword);
  if (async) machine.fail(async, "async functions are not supported in a definition");
}

function bindParameters(
  machine: Machine,
  name: string,
  code: ts.FunctionLikeDeclaration,
  args: readonly Datum[],
  scope: Scope,
  node: ts.Node,
): void {
  const parameters = code.parameters.filter(
    (parameter) => !(ts.isIdentifier(parameter.name) && parameter.name.text === "this"),
  );
  const rest = parameters.at(-1)?.dotDotDotToken !== undefined;
  const required = parameters.filter((p) => !p.initializer && !p.questionToken && !p.dotDotDotToken).length;
  // A function may stand where one of more parameters is wanted; a method or constructor is called by its name.
  const named = ts.isMethodDeclaration(code) || ts.isConstructorDeclaration(code);
  if (args.length < required || (named && !rest && args.length > parameters.length)) {
    const most = rest ? "or more" : required === parameters.length ? "" : `to ${parameters.length}`;
    const count = most === "" || most === "or more" ? `${required} ${most}`.trim() : `${required} ${most}`;
    const names = parameters.map((parameter) => parameter.name.getText()).join(", ");
    machine.fail(
      node,
      `${name} takes ${count} ${count === "1" ? "argument" : "arguments"}, not ${args.length}`,
      `It is declared as ${name}(${names}).`,
    );
  }
  parameters.forEach((parameter, i) => {
    if (ts.canHaveModifiers(parameter) && ts.getModifiers(parameter)?.length) {
      machine.fail(parameter, "parameter properties are not supported", "Declare the field and assign it.");
    }
    if (parameter.dotDotDotToken) {
      declare(machine, parameter.name, args.slice(i), scope, { names: false });
      return;
    }
    const given = i < args.length ? args[i] : undefined;
    const missing = given === undefined || given instanceof Absent;
    const datum = missing && parameter.initializer ? machine.evaluate(parameter.initializer, scope) : given;
    declare(machine, parameter.name, datum, scope, { names: false });
  });
}
