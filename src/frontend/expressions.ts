/** @file Expressions, one function for each kind of syntax that a definition may use. */
import { ts } from "ts-morph";
import { nearest } from "../ir/nearest.ts";
import { argumentsOf, callExpression, chained, link, newExpression, SHORT, superMethod } from "./calls.ts";
import { declareClass } from "./classes.ts";
import { isNullish, isTruthy, typeOf } from "./describe.ts";
import type { ExpressionTable, Machine } from "./machine.ts";
import { readElement, readMember } from "./members.ts";
import { applyBinary, applyUnary, compoundOperators, limited, textOf } from "./operators.ts";
import { assign, propertyName } from "./patterns.ts";
import { type Datum, FunctionDatum, type FunctionNode, RecordDatum, Scope } from "./values.ts";

const K = ts.SyntaxKind;

/** What the host would give to code that ran: a definition that asks for it is told that it doesn't run. */
const HOST = new Set(
  (
    "process require eval Function globalThis global window console fetch module exports setTimeout " +
    "setInterval Date Promise Proxy Reflect Symbol WebAssembly Buffer JSON Map Set"
  ).split(" "),
);

function identifier(machine: Machine, node: ts.Identifier, scope: Scope): Datum {
  const binding = scope.find(node.text);
  if (binding) {
    if (!binding.ready) machine.fail(node, `"${node.text}" is used before it is declared`);
    return binding.datum;
  }
  if (machine.tables.globals.has(node.text)) return machine.tables.globals.get(node.text);
  if (HOST.has(node.text)) {
    machine.fail(
      node,
      `"${node.text}" is not available in a definition`,
      "A definition is read, never executed.",
    );
  }
  const { natives } = machine.tables;
  if (natives.has(node.text)) {
    machine.fail(node, `"${node.text}" is not imported`, `Write: import { ${node.text} } from "ithaca/nn";`);
  }
  const near = nearest(node.text, [...scope.names(), ...machine.tables.globals.keys(), ...natives.keys()]);
  const remedy = near ? `Did you mean "${near}"?` : 'Declare it, or import it from "ithaca/nn".';
  return machine.fail(node, `"${node.text}" is not defined`, remedy);
}

function propertyAccess(machine: Machine, node: ts.PropertyAccessExpression, scope: Scope): Datum {
  if (node.expression.kind === K.SuperKeyword) return superMethod(machine, node, scope).method;
  return chained(node, () => {
    const object = link(machine, node, scope);
    return object === SHORT ? SHORT : readMember(machine, object, node.name.text, node.name);
  });
}

function elementAccess(machine: Machine, node: ts.ElementAccessExpression, scope: Scope): Datum {
  return chained(node, () => {
    const object = link(machine, node, scope);
    if (object === SHORT) return SHORT;
    return readElement(machine, object, machine.evaluate(node.argumentExpression, scope), node);
  });
}

function binary(machine: Machine, node: ts.BinaryExpression, scope: Scope): Datum {
  const operator = node.operatorToken.kind;
  if (operator === K.EqualsToken) {
    const datum = machine.evaluate(node.right, scope);
    assign(machine, node.left, datum, scope);
    return datum;
  }
  const compound = compoundOperators[operator];
  const datum = apply(machine, compound ?? operator, node, scope);
  if (compound) assign(machine, node.left, datum, scope);
  return datum;
}

function apply(machine: Machine, operator: ts.SyntaxKind, node: ts.BinaryExpression, scope: Scope): Datum {
  if (operator === K.CommaToken) return machine.unsupported(node);
  const left = machine.evaluate(node.left, scope);
  if (operator === K.AmpersandAmpersandToken)
    return isTruthy(left) ? machine.evaluate(node.right, scope) : left;
  if (operator === K.BarBarToken) return isTruthy(left) ? left : machine.evaluate(node.right, scope);
  if (operator === K.QuestionQuestionToken)
    return isNullish(left) ? machine.evaluate(node.right, scope) : left;
  const right = machine.evaluate(node.right, scope);
  return applyBinary(machine, operator, { left, right, leftNode: node.left, rightNode: node.right, node });
}

function prefixUnary(machine: Machine, node: ts.PrefixUnaryExpression, scope: Scope): Datum {
  if (node.operator === K.PlusPlusToken || node.operator === K.MinusMinusToken) {
    return step(machine, node.operand, node.operator, scope).after;
  }
  const operand = machine.evaluate(node.operand, scope);
  if (node.operator === K.ExclamationToken) return !isTruthy(operand);
  return applyUnary(machine, node.operator, operand, node);
}

function step(machine: Machine, target: ts.Expression, operator: ts.SyntaxKind, scope: Scope) {
  const before = machine.number(machine.evaluate(target, scope), target);
  const after = operator === K.PlusPlusToken ? before + 1 : before - 1;
  assign(machine, target, after, scope);
  return { before, after };
}

function arrayLiteral(machine: Machine, node: ts.ArrayLiteralExpression, scope: Scope): Datum {
  return argumentsOf(machine, node.elements, scope);
}

function objectLiteral(machine: Machine, node: ts.ObjectLiteralExpression, scope: Scope): Datum {
  const fields = new Map<string, Datum>();
  for (const property of node.properties) {
    if (ts.isSpreadAssignment(property)) {
      const spread = machine.evaluate(property.expression, scope);
      if (isNullish(spread)) continue;
      if (!(spread instanceof RecordDatum))
        machine.mismatch(spread, property, "what is spread here", "an object");
      machine.work(property, spread.fields.size);
      for (const [name, datum] of spread.fields) fields.set(name, datum);
      continue;
    }
    const name = property.name ? propertyName(machine, property.name, scope) : "";
    if (name === "__proto__") machine.fail(property, '"__proto__" is not available in a definition');
    if (ts.isPropertyAssignment(property)) fields.set(name, machine.evaluate(property.initializer, scope));
    else if (ts.isShorthandPropertyAssignment(property))
      fields.set(name, identifier(machine, property.name, scope));
    else if (ts.isMethodDeclaration(property)) fields.set(name, new FunctionDatum(name, property, scope));
    else machine.unsupported(property);
  }
  return new RecordDatum(fields);
}

function functionOf(_machine: Machine, node: FunctionNode, scope: Scope): Datum {
  const name =
    ts.isVariableDeclaration(node.parent) && ts.isIdentifier(node.parent.name) ? node.parent.name.text : "";
  const inner = ts.isFunctionExpression(node) && node.name ? new Scope(scope) : scope;
  const datum = new FunctionDatum(node.name?.getText() || name || "the function", node, inner);
  if (ts.isFunctionExpression(node) && node.name) inner.declare(node.name.text, datum, true);
  return datum;
}

function template(machine: Machine, node: ts.TemplateExpression, scope: Scope): Datum {
  const parts = node.templateSpans.map(
    (span) => textOf(machine, machine.evaluate(span.expression, scope), span.expression) + span.literal.text,
  );
  return limited(machine, node.head.text + parts.join(""), node);
}

function self(machine: Machine, node: ts.Node, scope: Scope): Datum {
  const receiver = scope.enclosing();
  if (receiver === null) return machine.fail(node, "this has no meaning outside a class");
  if (receiver.self === undefined) {
    machine.fail(
      node,
      "this is undefined: the method was taken from its object",
      "Call it on the object, or use an arrow function.",
    );
  }
  return receiver.self;
}

/** Syntax that only speaks to TypeScript: the value is that of the expression inside. */
const inside = (machine: Machine, node: { expression: ts.Expression } & ts.Node, scope: Scope): Datum =>
  machine.evaluate(node.expression, scope);

export const expressions: ExpressionTable = {
  [K.NumericLiteral]: (_machine, node: ts.NumericLiteral) => Number(node.text),
  [K.StringLiteral]: (_machine, node: ts.StringLiteral) => node.text,
  [K.NoSubstitutionTemplateLiteral]: (_machine, node: ts.NoSubstitutionTemplateLiteral) => node.text,
  [K.TrueKeyword]: () => true,
  [K.FalseKeyword]: () => false,
  [K.NullKeyword]: () => null,
  [K.Identifier]: identifier,
  [K.ThisKeyword]: self,
  [K.PropertyAccessExpression]: propertyAccess,
  [K.ElementAccessExpression]: elementAccess,
  [K.CallExpression]: callExpression,
  [K.NewExpression]: newExpression,
  [K.BinaryExpression]: binary,
  [K.PrefixUnaryExpression]: prefixUnary,
  [K.PostfixUnaryExpression]: (machine, node: ts.PostfixUnaryExpression, scope) =>
    step(machine, node.operand, node.operator, scope).before,
  [K.ConditionalExpression]: (machine, node: ts.ConditionalExpression, scope) =>
    machine.evaluate(
      isTruthy(machine.evaluate(node.condition, scope)) ? node.whenTrue : node.whenFalse,
      scope,
    ),
  [K.ArrayLiteralExpression]: arrayLiteral,
  [K.ObjectLiteralExpression]: objectLiteral,
  [K.ArrowFunction]: functionOf,
  [K.FunctionExpression]: functionOf,
  [K.ClassExpression]: (machine, node: ts.ClassExpression, scope) =>
    declareClass(machine, node, new Scope(scope)),
  [K.TemplateExpression]: template,
  [K.OmittedExpression]: () => undefined,
  [K.ParenthesizedExpression]: inside,
  [K.AsExpression]: inside,
  [K.SatisfiesExpression]: inside,
  [K.NonNullExpression]: inside,
  [K.TypeAssertionExpression]: inside,
  [K.TypeOfExpression]: (machine, node: ts.TypeOfExpression, scope) =>
    typeOf(machine.evaluate(node.expression, scope)),
};
