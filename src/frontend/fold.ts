/**
 * @file Finds the loops of a definition whose iterations made equal nodes.
 *
 * Forward has been written out, each iteration in its place. Here iterations are compared as graphs: the same ops with
 * the same attributes, on operands that are made at the same place of the same iteration, or at the same place of the
 * one before (these are carried), or outside the loop, or are parameters whose names differ in the number of the
 * iteration alone. So it does not matter how a loop is written, and nothing that was read is read again.
 */
import type { Node, Output, Param, Value } from "../ir/graph.ts";
import { printAttrs } from "../ir/print.ts";
import { sameType } from "../ir/type.ts";
import type { LoopTrace } from "./trace.ts";

/** A result, by its place in its iteration. */
export interface Slot {
  readonly node: number;
  readonly result: number;
}

/** What is handed on: where it is made, and what the first iteration gets. */
export interface Carried {
  readonly slot: Slot;
  readonly first: Value;
}

/** A loop that can be rolled up: nodes `start` to `end`, `times` iterations of `length` nodes. */
export interface Fold {
  readonly loc: string;
  readonly start: number;
  readonly end: number;
  readonly times: number;
  readonly length: number;
  readonly carried: readonly Carried[];
  /** Parameters of one layer each, all members; by the one of the first iteration. */
  readonly families: ReadonlyMap<Value, readonly Value[]>;
  /** Everything else that comes from outside. */
  readonly outer: ReadonlySet<Value>;
}

/** What was read: nodes written out, and what is made of them. */
export interface Program {
  readonly params: readonly Param[];
  readonly nodes: readonly Node[];
  readonly outputs: readonly Output[];
}

/** The outermost loops that can be rolled up, such that every parameter is in a family everywhere or nowhere. */
export function findFolds(program: Program, loops: readonly LoopTrace[]): Fold[] {
  const params = new Map(program.params.map((param) => [param.value, param]));
  const names = new Set(program.params.map((param) => param.value.name));
  const outermostFirst = loops
    .filter((loop) => loop.starts.length > 1)
    .sort((a, b) => a.starts[0] - b.starts[0] || b.end - a.end);
  let folds: Fold[] = [];
  for (const loop of outermostFirst) {
    if (folds.some((fold) => loop.starts[0] < fold.end && loop.end > fold.start)) continue;
    const fold = new Comparison(loop, program, params, names).fold();
    if (fold) folds.push(fold);
  }
  for (;;) {
    const alone = usedAlone(program.nodes, folds);
    if (alone.size === 0) return folds;
    folds = folds.filter((fold) => ![...membersOf(fold)].some((member) => alone.has(member)));
  }
}

function membersOf(fold: Fold): Set<Value> {
  return new Set([...fold.families.values()].flat());
}

/** Members of families that are also used outside the folds that have them. */
function usedAlone(nodes: readonly Node[], folds: readonly Fold[]): Set<Value> {
  const members = folds.map(membersOf);
  const alone = new Set<Value>();
  nodes.forEach((node, at) => {
    const around = folds.findIndex((fold) => fold.start <= at && at < fold.end);
    for (const operand of node.operands) {
      if (members.some((own, i) => i !== around && own.has(operand)) && !members[around]?.has(operand)) {
        alone.add(operand);
      }
    }
  });
  return alone;
}

/** The comparison of a loop's iterations. */
class Comparison {
  readonly #loop: LoopTrace;
  readonly #program: Program;
  readonly #params: ReadonlyMap<Value, Param>;
  readonly #names: ReadonlySet<string>;
  readonly #places = new Map<Value, Slot & { readonly iteration: number }>();
  readonly #carried = new Map<string, Carried>();
  readonly #families = new Map<Value, readonly Value[]>();
  readonly #outer = new Set<Value>();

  constructor(
    loop: LoopTrace,
    program: Program,
    params: ReadonlyMap<Value, Param>,
    names: ReadonlySet<string>,
  ) {
    this.#loop = loop;
    this.#program = program;
    this.#params = params;
    this.#names = names;
  }

  /** The loop as a fold; null if its iterations differ. */
  fold(): Fold | null {
    const { loc, starts, end } = this.#loop;
    const { nodes } = this.#program;
    const [start] = starts;
    const times = starts.length;
    const length = (end - start) / times;
    if (length === 0 || starts.some((at, i) => at !== start + i * length)) return null;
    for (let at = start; at < end; at++) {
      const iteration = Math.floor((at - start) / length);
      nodes[at].results.forEach((value, result) => {
        this.#places.set(value, { iteration, node: (at - start) % length, result });
      });
    }
    for (let at = 0; at < length; at++) {
      const row = starts.map((first) => nodes[first + at]);
      if (!row.every((node) => isAlike(node, row[0]))) return null;
      for (let i = 0; i < row[0].operands.length; i++) {
        if (!this.#matches(row.map((node) => node.operands[i]))) return null;
      }
    }
    if (this.#mixes() || this.#leaks(times - 1, end)) return null;
    return {
      loc,
      start,
      end,
      times,
      length,
      carried: [...this.#carried.values()],
      families: this.#families,
      outer: this.#outer,
    };
  }

  /** Sorts the operands at one place of all iterations into carried, families and outer; false if they don't match. */
  #matches(operands: readonly Value[]): boolean {
    const [first, second] = operands;
    const place = this.#places.get(second);
    if (!place) {
      if (operands.some((operand) => this.#places.has(operand))) return false;
      if (operands.every((operand) => operand === first)) {
        this.#outer.add(first);
        return true;
      }
      const known = this.#families.get(first);
      this.#families.set(first, operands);
      return known ? known.every((member, i) => member === operands[i]) : this.#isFamily(operands);
    }
    const back = 1 - place.iteration;
    const same = operands.every((operand, i) => {
      const own = this.#places.get(operand);
      if (i < back) return own === undefined;
      return own?.iteration === i - back && own.node === place.node && own.result === place.result;
    });
    if (!same || back === 0) return same;
    const known = this.#carried.get(keyOf(place));
    this.#carried.set(keyOf(place), { slot: { node: place.node, result: place.result }, first });
    return sameType(first.type, second.type) && (known === undefined || known.first === first);
  }

  /** Whether `values` are parameters 0, 1, 2 ... of a list, all of them, and alike. */
  #isFamily(values: readonly Value[]): boolean {
    const at = starOf(values[0].name, values[1].name);
    if (at < 0) return false;
    const init = this.#params.get(values[0])?.init;
    return (
      !this.#names.has(withPart(values[0].name, at, String(values.length))) &&
      values.every(
        (value, i) =>
          this.#params.get(value)?.init === init &&
          value.name === withPart(values[0].name, at, String(i)) &&
          sameType(value.type, values[0].type),
      )
    );
  }

  /** Whether a member of a family is also used as itself. */
  #mixes(): boolean {
    const members = new Set([...this.#families.values()].flat());
    return (
      [...this.#outer].some((value) => members.has(value)) ||
      [...this.#carried.values()].some(({ first }) => members.has(first))
    );
  }

  /** Whether something is used behind the loop that no carried value of the last iteration gives. */
  #leaks(last: number, end: number): boolean {
    const leaks = (value: Value): boolean => {
      const place = this.#places.get(value);
      return place !== undefined && !(place.iteration === last && this.#carried.has(keyOf(place)));
    };
    const { nodes, outputs } = this.#program;
    return (
      nodes.slice(end).some((node) => node.operands.some(leaks)) || outputs.some(({ value }) => leaks(value))
    );
  }
}

const keyOf = ({ node, result }: Slot): string => `${node}.${result}`;

function isAlike(a: Node, b: Node): boolean {
  return (
    a.op === b.op &&
    a.operands.length === b.operands.length &&
    printAttrs(a.op, a.attrs) === printAttrs(b.op, b.attrs) &&
    a.results.every((result, i) => sameType(result.type, b.results[i].type))
  );
}

/** The one part, between dots, in which two names differ; -1 if there isn't one. */
function starOf(a: string, b: string): number {
  const [left, right] = [a.split("."), b.split(".")];
  const different = left.flatMap((part, i) => (part === right[i] ? [] : [i]));
  return left.length === right.length && different.length === 1 ? different[0] : -1;
}

function withPart(name: string, at: number, part: string): string {
  return name.split(".").with(at, part).join(".");
}

/** The name of a family: `model.layers.*.mlp.up_proj.weight`. */
export function familyName([first, second]: readonly Value[]): string {
  return withPart(first.name, starOf(first.name, second.name), "*");
}
