/** @file Partial evaluation: what all parts of it share. Which syntax is understood is in the tables given to it. */
import { ts } from "ts-morph";
import { UserError } from "../ir/error.ts";
import { describe, isUndefined } from "./describe.ts";
import type { Sources } from "./sources.ts";
import type { Trace } from "./trace.ts";
import { Absent, type Datum, type NativeDatum, type Scope } from "./values.ts";

/** How a statement ended. */
export type Completion = "normal" | "break" | "continue" | { readonly returned: Datum };

export type ExpressionTable = Partial<
  Record<ts.SyntaxKind, (machine: Machine, node: never, scope: Scope) => Datum>
>;
export type StatementTable = Partial<
  Record<ts.SyntaxKind, (machine: Machine, node: never, scope: Scope) => Completion>
>;

/** A definition may take this many steps and nest this many calls; an endless loop ends there. */
const STEP_LIMIT = 5_000_000;
const DEPTH_LIMIT = 150;

/** Calls a function at `node`, with `self` as its `this`. */
export type Call = (
  machine: Machine,
  callee: Datum,
  args: readonly Datum[],
  node: ts.Node,
  self?: Datum,
) => Datum;

export interface MachineTables {
  readonly call: Call;
  readonly expressions: ExpressionTable;
  readonly statements: StatementTable;
  /** `Math`, `Array` and so on. */
  readonly globals: ReadonlyMap<string, Datum>;
  /** What "ithaca/nn" declares without defining it: ops and `parameter`. */
  readonly natives: ReadonlyMap<string, NativeDatum>;
}

export class Machine {
  readonly sources: Sources;
  readonly tables: MachineTables;
  /** The graph being built; null until `forward` runs. */
  trace: Trace | null = null;
  /** The call in the user's own file that led to where evaluation is. */
  site: ts.Node | null = null;
  #steps = 0;
  #depth = 0;

  constructor(sources: Sources, tables: MachineTables) {
    this.sources = sources;
    this.tables = tables;
  }

  /** Throws a UserError at `node`, or at the user's call that led there if `node` is in our own files. */
  fail(node: ts.Node, message: string, remedy?: string): never {
    throw this.sources.errorAt(this.placeOf(node), message, remedy);
  }

  /** The user's line for a node of the graph. */
  lineOf(node: ts.Node): string {
    return this.sources.lineOf(this.placeOf(node));
  }

  /** The node itself, or the user's call that led there if it is in our own files. */
  placeOf(node: ts.Node): ts.Node {
    return this.site && this.sources.isLibrary(node.getSourceFile()) ? this.site : node;
  }

  isLibrary(node: ts.Node): boolean {
    return this.sources.isLibrary(node.getSourceFile());
  }

  /** Counts work, so that no definition runs for ever. */
  work(node: ts.Node, steps = 1): void {
    this.#steps += steps;
    if (this.#steps > STEP_LIMIT) {
      this.fail(
        node,
        `the definition takes more than ${STEP_LIMIT.toLocaleString("en-US")} steps`,
        "Is there a loop without end?",
      );
    }
  }

  evaluate(node: ts.Expression, scope: Scope): Datum {
    this.work(node);
    const evaluate = this.tables.expressions[node.kind];
    return evaluate ? evaluate(this, node as never, scope) : this.unsupported(node);
  }

  execute(node: ts.Statement, scope: Scope): Completion {
    this.work(node);
    const execute = this.tables.statements[node.kind];
    return execute ? execute(this, node as never, scope) : this.unsupported(node);
  }

  call(callee: Datum, args: readonly Datum[], node: ts.Node, self?: Datum): Datum {
    return this.tables.call(this, callee, args, node, self);
  }

  unsupported(node: ts.Node): never {
    const name = ts.SyntaxKind[node.kind].replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
    this.fail(
      node,
      `${name} is not supported in a definition`,
      "A definition is read, not executed: write it with classes, functions, constants, conditions and loops.",
    );
  }

  /** Runs `body` as a call made at `node`. */
  calling<T>(node: ts.Node, body: () => T): T {
    const site = this.site;
    if (!this.isLibrary(node)) this.site = node;
    if (++this.#depth > DEPTH_LIMIT) {
      this.fail(node, `calls are nested more than ${DEPTH_LIMIT} deep`, "Is there a recursion without end?");
    }
    try {
      return body();
    } finally {
      this.#depth--;
      this.site = site;
    }
  }

  /** The datum as a number, or an error that says what `what` is instead. */
  number(datum: Datum, node: ts.Node, what = "this"): number {
    if (typeof datum === "number") return datum;
    return this.mismatch(datum, node, what, "a number");
  }

  mismatch(datum: Datum, node: ts.Node, what: string, wanted: string): never {
    if (datum instanceof Absent)
      this.fail(node, `${what} must be ${wanted}, but ${datum.reason}`, datum.remedy);
    const found = isUndefined(datum) ? "undefined" : describe(datum);
    return this.fail(node, `${what} must be ${wanted}, not ${found}`);
  }

  /** Gives a UserError that has no place the place of `node`. */
  placed<T>(node: ts.Node, body: () => T): T {
    try {
      return body();
    } catch (error) {
      if (error instanceof UserError && error.frame === undefined)
        this.fail(node, error.message, error.remedy);
      throw error;
    }
  }
}
