/**
 * @file Rolls up the layers: a loop of the definition whose iterations made equal nodes becomes one `repeat`.
 *
 * Forward has been written out, each iteration in its place. Here iterations are compared as graphs: the same ops with
 * the same attributes, on operands that are made at the same place of the same iteration, or at the same place of the
 * one before (these are carried), or outside the loop, or are parameters whose names differ in the number of the
 * iteration alone. So it does not matter how a loop is written, and nothing that was read is read again.
 */
import type { Graph, Node, Output, Param, Region, Value } from "../ir/graph.ts";
import { completeAttrs } from "../ir/op.ts";
import { recordOf } from "../ir/ops/index.ts";
import { printAttrs } from "../ir/print.ts";
import { type Mesh, memberOf, sameType } from "../ir/type.ts";
import type { LoopTrace, Trace } from "./trace.ts";

/** A result, by its place in its iteration. */
interface Slot {
  readonly node: number;
  readonly result: number;
}

/** A loop that can be rolled up. */
interface Fold {
  readonly loc: string;
  readonly start: number;
  readonly end: number;
  readonly times: number;
  /** Nodes of one iteration. */
  readonly length: number;
  /** What is handed on: where it is made, and what the first iteration gets. */
  readonly carried: readonly { readonly slot: Slot; readonly first: Value }[];
  /** Parameters of one layer each, all members; by the one of the first iteration. */
  readonly families: ReadonlyMap<Value, readonly Value[]>;
  /** Everything else that comes from outside. */
  readonly outer: readonly Value[];
}

/** What the frontend hands over: nodes written out, unnamed as yet. */
export interface Unrolled {
  readonly name: string;
  readonly mesh: Mesh;
  readonly params: readonly Param[];
  readonly outputs: readonly Output[];
}

/** The finished graph: loops rolled up, every value named. */
export function roll(unrolled: Unrolled, trace: Trace): Graph {
  const { nodes } = trace.builder;
  const folds = findFolds(unrolled, nodes, trace.loops);
  return new Writer(unrolled, nodes, folds, trace).write();
}

/** The outermost loops that can be rolled up, such that every parameter is in a family everywhere or nowhere. */
function findFolds(unrolled: Unrolled, nodes: readonly Node[], loops: readonly LoopTrace[]): Fold[] {
  const outermostFirst = [...loops].sort((a, b) => a.starts[0] - b.starts[0] || b.end - a.end);
  let folds: Fold[] = [];
  for (const loop of outermostFirst) {
    if (folds.some((fold) => loop.starts[0] < fold.end && loop.end > fold.start)) continue;
    const fold = foldOf(loop, unrolled, nodes);
    if (fold) folds.push(fold);
  }
  for (;;) {
    const split = new Set(splitFamilies(nodes, folds));
    if (split.size === 0) return folds;
    folds = folds.filter((fold) => ![...fold.families.values()].flat().some((member) => split.has(member)));
  }
}

/** Members of families that are also used by themselves. */
function splitFamilies(nodes: readonly Node[], folds: readonly Fold[]): Value[] {
  const members = new Set(folds.flatMap((fold) => [...fold.families.values()].flat()));
  const alone: Value[] = [];
  nodes.forEach((node, at) => {
    const around = folds.find((fold) => fold.start <= at && at < fold.end);
    const iteration = around ? Math.floor((at - around.start) / around.length) : 0;
    for (const operand of node.operands) {
      if (!members.has(operand)) continue;
      const inFamily = [...(around?.families.values() ?? [])].some((family) => family[iteration] === operand);
      if (!inFamily) alone.push(operand);
    }
  });
  return alone;
}

/** The loop as a fold; null if its iterations differ. */
function foldOf(loop: LoopTrace, unrolled: Unrolled, nodes: readonly Node[]): Fold | null {
  const times = loop.starts.length;
  const [start] = loop.starts;
  const length = (loop.end - start) / times;
  if (times < 2 || length === 0 || loop.starts.some((at, i) => at !== start + i * length)) return null;
  const places = new Map<Value, Slot & { readonly iteration: number }>();
  for (let at = start; at < loop.end; at++) {
    const iteration = Math.floor((at - start) / length);
    nodes[at].results.forEach((value, result) => {
      places.set(value, { iteration, node: (at - start) % length, result });
    });
  }
  const carried = new Map<string, { slot: Slot; first: Value }>();
  const families = new Map<Value, readonly Value[]>();
  const outer = new Set<Value>();
  const names = new Set(unrolled.params.map((param) => param.value.name));

  /** Sorts the operands that stand at one place of all iterations into the above; false if they don't match. */
  const matches = (operands: readonly Value[]): boolean => {
    const [first, second] = operands;
    const place = places.get(second);
    if (!place) {
      if (operands.some((operand) => places.has(operand))) return false;
      if (operands.every((operand) => operand === first)) {
        outer.add(first);
        return true;
      }
      if (!isFamily(operands, unrolled.params, names)) return false;
      const known = families.get(first);
      families.set(first, operands);
      return known === undefined || known.every((member, i) => member === operands[i]);
    }
    const back = 1 - place.iteration;
    const same = operands.every((operand, i) => {
      if (i < back) return !places.has(operand);
      const own = places.get(operand);
      return own?.iteration === i - back && own.node === place.node && own.result === place.result;
    });
    if (!same || back === 0) return same;
    const key = `${place.node}.${place.result}`;
    const known = carried.get(key);
    carried.set(key, { slot: place, first });
    return sameType(first.type, second.type) && (known === undefined || known.first === first);
  };

  for (let at = 0; at < length; at++) {
    const row = Array.from({ length: times }, (_, i) => nodes[start + i * length + at]);
    if (!row.every((node) => isAlike(node, row[0]))) return null;
    for (let i = 0; i < row[0].operands.length; i++)
      if (!matches(row.map((node) => node.operands[i]))) return null;
  }
  const leaves = (value: Value): boolean => {
    const place = places.get(value);
    return (
      place !== undefined && !(place.iteration === times - 1 && carried.has(`${place.node}.${place.result}`))
    );
  };
  if (nodes.slice(loop.end).some((node) => node.operands.some(leaves))) return null;
  if (unrolled.outputs.some(({ value }) => leaves(value))) return null;
  return {
    loc: loop.loc,
    start,
    end: loop.end,
    times,
    length,
    carried: [...carried.values()],
    families,
    outer: [...outer],
  };
}

function isAlike(a: Node, b: Node): boolean {
  return (
    a.op === b.op &&
    a.operands.length === b.operands.length &&
    printAttrs(a.op, a.attrs) === printAttrs(b.op, b.attrs) &&
    a.results.every((result, i) => sameType(result.type, b.results[i].type))
  );
}

/** Whether `values` are parameters 0, 1, 2 ... of a list, all of them, and alike. */
function isFamily(values: readonly Value[], params: readonly Param[], names: ReadonlySet<string>): boolean {
  const at = starOf(values[0].name, values[1].name);
  if (at < 0) return false;
  const nameOf = (i: number) => withNumber(values[0].name, at, String(i));
  const inits = values.map((value) => params.find((param) => param.value === value)?.init);
  return (
    inits.every((init) => init !== undefined && init === inits[0]) &&
    values.every((value, i) => value.name === nameOf(i) && sameType(value.type, values[0].type)) &&
    !names.has(nameOf(values.length))
  );
}

/** The one part, between dots, in which two names differ; -1 if there isn't one. */
function starOf(a: string, b: string): number {
  const [left, right] = [a.split("."), b.split(".")];
  const different = left.flatMap((part, i) => (part === right[i] ? [] : [i]));
  return left.length === right.length && different.length === 1 ? different[0] : -1;
}

function withNumber(name: string, at: number, number: string): string {
  return name
    .split(".")
    .map((part, i) => (i === at ? number : part))
    .join(".");
}

/** Names of one scope. */
class Names {
  readonly #taken = new Set<string>();

  unique(wish: string): string {
    let name = wish;
    for (let suffix = 1; this.#taken.has(name); suffix++) name = `${wish}.${suffix}`;
    this.#taken.add(name);
    return name;
  }
}

/** Builds the graph anew with its final values. Types don't change, so nothing is inferred again. */
class Writer {
  readonly #unrolled: Unrolled;
  readonly #nodes: readonly Node[];
  readonly #folds: readonly Fold[];
  readonly #trace: Trace;
  readonly #names = new Names();
  readonly #values = new Map<Value, Value>();

  constructor(unrolled: Unrolled, nodes: readonly Node[], folds: readonly Fold[], trace: Trace) {
    this.#unrolled = unrolled;
    this.#nodes = nodes;
    this.#folds = folds;
    this.#trace = trace;
  }

  write(): Graph {
    const { name, mesh, outputs } = this.#unrolled;
    const params = this.#params();
    const written: Node[] = [];
    for (let at = 0; at < this.#nodes.length; at++) {
      const fold = this.#folds.find((candidate) => candidate.start === at);
      written.push(fold ? this.#repeat(fold) : this.#copy(this.#nodes[at], this.#values, this.#names));
      if (fold) at = fold.end - 1;
    }
    return {
      name,
      mesh,
      params,
      nodes: written,
      outputs: outputs.map((output) => ({
        name: output.name,
        value: this.#value(output.value, this.#values),
      })),
      updates: [],
    };
  }

  #value(value: Value, values: ReadonlyMap<Value, Value>): Value {
    const known = values.get(value);
    if (!known) throw new Error(`%${value.name} is used before it is made`);
    return known;
  }

  /** The parameters, a family in the place of its first member. */
  #params(): Param[] {
    const families = new Map<Value, { name: string; members: readonly Value[] }>();
    for (const { families: own } of this.#folds) {
      for (const [first, members] of own) {
        const name = withNumber(first.name, starOf(first.name, members[1].name), "*");
        for (const member of members) families.set(member, { name, members });
      }
    }
    return this.#unrolled.params.flatMap((param): Param[] => {
      const family = families.get(param.value);
      if (family && family.members[0] !== param.value) return [];
      const value: Value = {
        name: this.#names.unique(family?.name ?? param.value.name),
        type: family ? { ...param.value.type, times: family.members.length } : param.value.type,
      };
      for (const member of family?.members ?? [param.value]) this.#values.set(member, value);
      return [{ ...param, value }];
    });
  }

  #copy(node: Node, values: Map<Value, Value>, names: Names): Node {
    const operands = node.operands.map((operand) => this.#value(operand, values));
    const record = recordOf(node.op);
    const first = this.#trace.wishOf(node.results[0]) ?? node.op;
    const results = node.results.map((result, i): Value => {
      const wish = i === 0 ? first : (this.#trace.wishOf(result) ?? `${first}.${record.results[i]}`);
      const value = { name: names.unique(wish), type: result.type };
      values.set(result, value);
      return value;
    });
    return { ...node, operands, results };
  }

  #repeat(fold: Fold): Node {
    const inner = new Map<Value, Value>();
    const names = new Names();
    const bodyNodes = this.#nodes.slice(fold.start, fold.start + fold.length);
    const made = ({ node, result }: Slot, iteration: number): Value =>
      this.#nodes[fold.start + iteration * fold.length + node].results[result];
    const param = (from: Value, wish: string): Value => {
      const value = { name: names.unique(wish), type: memberOf(from.type) };
      inner.set(from, value);
      return value;
    };
    const given = [...fold.families.keys(), ...fold.outer];
    // What is carried may also be used unchanged, in which case it is a parameter of its own.
    const starts = fold.carried.map(({ slot, first }) => {
      const wish = this.#trace.wishOf(made(slot, 0)) ?? "carried";
      return { first, value: { name: names.unique(wish), type: first.type } };
    });
    const params = given.map((value) => {
      // Inside the body there is one layer: `model.layers.*.mlp.up_proj.weight` is `mlp.up_proj.weight` there.
      const { name } = this.#value(value, this.#values);
      return param(value, fold.families.has(value) ? (name.split("*.").at(-1) ?? name) : name);
    });
    const nodes = bodyNodes.map((node, at) => {
      const replaced = this.#carriedOperands(fold, node, at, starts);
      const operands = node.operands.map((operand, i) => replaced.get(i) ?? this.#value(operand, inner));
      return { ...this.#copy({ ...node, operands: [] }, inner, names), operands };
    });
    const body: Region = {
      params: [...starts.map((start) => start.value), ...params],
      nodes,
      returns: fold.carried.map(({ slot }) => this.#value(made(slot, 0), inner)),
    };
    const results = fold.carried.map(({ slot }): Value => {
      const last = made(slot, fold.times - 1);
      const value = { name: this.#names.unique(this.#trace.wishOf(last) ?? "carried"), type: last.type };
      this.#values.set(last, value);
      return value;
    });
    const record = recordOf("repeat");
    return {
      op: record.name,
      operands: [...fold.carried.map(({ first }) => first), ...given].map((value) =>
        this.#value(value, this.#values),
      ),
      attrs: completeAttrs(record, { times: fold.times, carry: fold.carried.length }),
      results,
      body,
      loc: fold.loc,
    };
  }

  /** Which operands of a node of the body are carried: those that the second iteration takes from the first. */
  #carriedOperands(
    fold: Fold,
    node: Node,
    at: number,
    starts: readonly { readonly first: Value; readonly value: Value }[],
  ): Map<number, Value> {
    const second = this.#nodes[fold.start + fold.length + at];
    const slots = fold.carried.map(({ slot }) => this.#nodes[fold.start + slot.node].results[slot.result]);
    const found = new Map<number, Value>();
    node.operands.forEach((_, i) => {
      const slot = slots.indexOf(second.operands[i]);
      if (slot >= 0) found.set(i, starts[slot].value);
    });
    return found;
  }
}
