/** @file Statements, one function for each kind of syntax that a definition may use. */
import { ts } from "ts-morph";
import { declareClass } from "./classes.ts";
import { describe, isSame, isTruthy } from "./describe.ts";
import type { Completion, Machine, StatementTable } from "./machine.ts";
import { assign, declare, itemsOf } from "./patterns.ts";
import { ErrorDatum, FunctionDatum, RecordDatum, Scope } from "./values.ts";

const K = ts.SyntaxKind;

/** Runs statements in `scope`, functions being known from the beginning. */
export function runAll(machine: Machine, statements: readonly ts.Statement[], scope: Scope): Completion {
  hoist(statements, scope);
  for (const statement of statements) {
    const completion = machine.execute(statement, scope);
    if (completion !== "normal") return completion;
  }
  return "normal";
}

/** Declares what is known before its line: functions, and that variables and classes are still to come. */
export function hoist(statements: readonly ts.Statement[], scope: Scope): void {
  for (const statement of statements) {
    if (ts.isFunctionDeclaration(statement) && statement.name && statement.body) {
      const { text } = statement.name;
      scope.declare(text, new FunctionDatum(text, statement, scope), true);
    } else if (ts.isClassDeclaration(statement) && statement.name) {
      scope.bindings.set(statement.name.text, { datum: undefined, ready: false, constant: true });
    } else if (ts.isVariableStatement(statement)) {
      for (const { name } of statement.declarationList.declarations) {
        if (ts.isIdentifier(name))
          scope.bindings.set(name.text, { datum: undefined, ready: false, constant: false });
      }
    }
  }
}

function declareVariables(machine: Machine, list: ts.VariableDeclarationList, scope: Scope): void {
  const constant = (list.flags & ts.NodeFlags.Const) !== 0;
  for (const { name, initializer } of list.declarations) {
    declare(machine, name, initializer && machine.evaluate(initializer, scope), scope, { constant });
  }
}

/** Runs a loop's body once; null to go on, otherwise how the loop ended. */
function iterate(machine: Machine, body: ts.Statement, scope: Scope): Completion | null {
  const completion = machine.execute(body, scope);
  if (completion === "normal" || completion === "continue") return null;
  return completion === "break" ? "normal" : completion;
}

/** Runs `body` as a loop whose iterations the trace remembers, so that equal ones can become `repeat`. */
function looping(machine: Machine, node: ts.Node, body: (begin: () => void) => Completion): Completion {
  const loop = machine.trace?.loop(machine.lineOf(node));
  const completion = body(() => {
    machine.work(node);
    loop?.iterate();
  });
  loop?.close();
  return completion;
}

function forStatement(machine: Machine, node: ts.ForStatement, scope: Scope): Completion {
  let current = new Scope(scope);
  const { initializer, condition, incrementor } = node;
  if (initializer && ts.isVariableDeclarationList(initializer))
    declareVariables(machine, initializer, current);
  else if (initializer) machine.evaluate(initializer, current);
  return looping(machine, node, (begin) => {
    while (!condition || isTruthy(machine.evaluate(condition, current))) {
      begin();
      const ended = iterate(machine, node.statement, current);
      if (ended) return ended;
      // Functions made in an iteration keep its variables.
      const next = new Scope(scope);
      for (const [name, binding] of current.bindings) next.bindings.set(name, { ...binding });
      current = next;
      if (incrementor) machine.evaluate(incrementor, current);
    }
    return "normal";
  });
}

function forOf(machine: Machine, node: ts.ForOfStatement | ts.ForInStatement, scope: Scope): Completion {
  if (ts.isForOfStatement(node) && node.awaitModifier) return machine.unsupported(node.awaitModifier);
  const datum = machine.evaluate(node.expression, scope);
  let items = datum;
  if (ts.isForInStatement(node)) {
    if (!(datum instanceof RecordDatum))
      return machine.mismatch(datum, node.expression, "what stands behind in", "an object");
    items = [...datum.fields.keys()];
  }
  const list = itemsOf(machine, items, node.expression);
  return looping(machine, node, (begin) => {
    // By index: the body may make the array longer.
    for (let i = 0; i < list.length; i++) {
      begin();
      const inner = new Scope(scope);
      if (ts.isVariableDeclarationList(node.initializer)) {
        declare(machine, node.initializer.declarations[0].name, list[i], inner, { names: false });
      } else assign(machine, node.initializer, list[i], inner);
      const ended = iterate(machine, node.statement, inner);
      if (ended) return ended;
    }
    return "normal";
  });
}

function whileStatement(
  machine: Machine,
  node: ts.WhileStatement | ts.DoStatement,
  scope: Scope,
): Completion {
  return looping(machine, node, (begin) => {
    let first = ts.isDoStatement(node);
    while (first || isTruthy(machine.evaluate(node.expression, scope))) {
      first = false;
      begin();
      const ended = iterate(machine, node.statement, scope);
      if (ended) return ended;
    }
    return "normal";
  });
}

function switchStatement(machine: Machine, node: ts.SwitchStatement, scope: Scope): Completion {
  const datum = machine.evaluate(node.expression, scope);
  const { clauses } = node.caseBlock;
  const inner = new Scope(scope);
  let from = clauses.findIndex(
    (clause) => ts.isCaseClause(clause) && isSame(datum, machine.evaluate(clause.expression, inner)),
  );
  if (from < 0) from = clauses.findIndex(ts.isDefaultClause);
  if (from < 0) return "normal";
  for (const clause of clauses.slice(from)) {
    const completion = runAll(machine, clause.statements, inner);
    if (completion === "break") return "normal";
    if (completion !== "normal") return completion;
  }
  return "normal";
}

function throwStatement(machine: Machine, node: ts.ThrowStatement, scope: Scope): Completion {
  const thrown = machine.evaluate(node.expression, scope);
  const message =
    thrown instanceof ErrorDatum ? thrown.message : typeof thrown === "string" ? thrown : describe(thrown);
  return machine.fail(node, message);
}

const nothing = (): Completion => "normal";

export const statements: StatementTable = {
  [K.Block]: (machine, node: ts.Block, scope) => runAll(machine, node.statements, new Scope(scope)),
  [K.VariableStatement]: (machine, node: ts.VariableStatement, scope) => {
    if (node.modifiers?.some((modifier) => modifier.kind === K.DeclareKeyword))
      return machine.unsupported(node);
    declareVariables(machine, node.declarationList, scope);
    return "normal";
  },
  [K.ExpressionStatement]: (machine, node: ts.ExpressionStatement, scope) => {
    machine.evaluate(node.expression, scope);
    return "normal";
  },
  [K.IfStatement]: (machine, node: ts.IfStatement, scope) => {
    if (isTruthy(machine.evaluate(node.expression, scope))) return machine.execute(node.thenStatement, scope);
    return node.elseStatement ? machine.execute(node.elseStatement, scope) : "normal";
  },
  [K.ForStatement]: forStatement,
  [K.ForOfStatement]: forOf,
  [K.ForInStatement]: forOf,
  [K.WhileStatement]: whileStatement,
  [K.DoStatement]: whileStatement,
  [K.SwitchStatement]: switchStatement,
  [K.ReturnStatement]: (machine, node: ts.ReturnStatement, scope) => ({
    returned: node.expression && machine.evaluate(node.expression, scope),
  }),
  [K.BreakStatement]: (machine, node: ts.BreakStatement) =>
    node.label ? machine.unsupported(node) : "break",
  [K.ContinueStatement]: (machine, node: ts.ContinueStatement) =>
    node.label ? machine.unsupported(node) : "continue",
  [K.ThrowStatement]: throwStatement,
  [K.ClassDeclaration]: (machine, node: ts.ClassDeclaration, scope) => {
    declareClass(machine, node, scope);
    return "normal";
  },
  [K.FunctionDeclaration]: nothing,
  [K.EmptyStatement]: nothing,
  [K.InterfaceDeclaration]: nothing,
  [K.TypeAliasDeclaration]: nothing,
};
