/** @file What a pass is: a record with a pure function from graph to graph, what it promises and what it needs. */
import type { AttrValue, Graph } from "../ir/graph.ts";
import type { Arrays, InterpretResult } from "../ir/interpret.ts";
import type { Widened } from "../ir/op.ts";
import type { PropertyName } from "../ir/verify.ts";

/** exact: bit for bit. reordered: sums associate differently. changed: other numbers by design, such as bf16. */
export type Numerics = "exact" | "reordered" | "changed";

export type PassOptions = Readonly<Record<string, AttrValue>>;

export interface Pass<O extends PassOptions = PassOptions> {
  /** The name on the command line and in dumps; also the file's name. */
  readonly name: string;
  /** What it does, as one sentence without a subject. */
  readonly summary: string;
  readonly numerics: Numerics;
  /** Properties that must hold before. All others that hold are preserved. */
  readonly requires: readonly PropertyName[];
  readonly establishes: readonly PropertyName[];
  /** Options with their defaults. */
  readonly options: O;
  /** Returns `graph` itself when there was nothing to do. */
  run(graph: Graph, options: Widened<O>): Graph;
  /** What the pass knows of a step's inputs though the graph does not say it: `--check` gives both graphs such. */
  readonly inputs?: (arrays: Arrays) => Arrays;
  /**
   * What the graph afterwards computes, from what `graph` computes on the same `arrays`: only for a pass that changes
   * what a program gives back. `--check` holds it to that; without it, results of one name must stay what they are.
   */
  readonly reference?: (
    results: InterpretResult,
    arrays: Arrays,
    graph: Graph,
    options: Widened<O>,
  ) => InterpretResult;
}

/** Checks nothing; gives the literal types of the options to `run`. */
export function definePass<const O extends PassOptions>(pass: Pass<O>): Pass<O> {
  return pass;
}
