/** @file Small random arrays for a graph's parameters that mean something: token ids, labels, positions, documents. */
import { type NDArray, product } from "./array.ts";
import { consumers, type Graph, type Node, type Region, type Value } from "./graph.ts";
import { IGNORED } from "./ops/loss.ts";
import type { TensorType } from "./type.ts";

/** What an integer parameter is for, by what reads it. */
type Meaning =
  | { readonly kind: "below"; readonly limit: number }
  | { readonly kind: "labels"; readonly limit: number }
  | { readonly kind: "positions" | "documents" | "document" | "number" };

/** Numbers in [0, 1) from a 32-bit seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Arrays for all parameters of the graphs, by name: the same name gets the same array. Integers stay in the range of
 * what reads them in the last graph, a third of the labels is ignored, a row has two documents and a half unless attention
 * is told that there is one; states and scalars are positive.
 */
export function sampleArrays(graphs: readonly Graph[], seed: number): Map<string, NDArray> {
  const arrays = new Map<string, NDArray>();
  for (const graph of graphs) {
    for (const { role, value } of graph.params) {
      if (arrays.has(value.name)) continue;
      const letters = [...value.name].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) >>> 0, seed);
      const meaning = value.type.dtype === "i32" ? meaningOf(value.name, graphs) : null;
      arrays.set(value.name, draw(value.type, meaning, role === "state", random(letters)));
    }
  }
  return arrays;
}

function draw(type: TensorType, meaning: Meaning | null, isState: boolean, next: () => number): NDArray {
  const sizes = [...(type.times === null ? [] : [type.times]), ...type.dims.map((dim) => dim.size)];
  const width = sizes.at(-1) ?? 1;
  const positive = isState || sizes.length === 0;
  const number = (flat: number): number => {
    if (!meaning) {
      const normal = Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
      return positive ? 0.1 + Math.abs(normal) : normal;
    }
    switch (meaning.kind) {
      case "below":
        return Math.floor(next() * meaning.limit);
      case "labels":
        return next() < 1 / 3 ? IGNORED : Math.floor(next() * meaning.limit);
      case "documents":
        return Math.floor((2.5 * (flat % width)) / width);
      case "document":
        return 0;
      case "positions":
        return flat % Math.ceil(width / 2);
      case "number":
        return 1 + Math.floor(next() * 5);
    }
  };
  return { sizes, data: Float64Array.from({ length: product(sizes) }, (_, flat) => number(flat)) };
}

function meaningOf(name: string, graphs: readonly Graph[]): Meaning {
  for (const { params, nodes } of graphs.toReversed()) {
    const param = params.find(({ value }) => value.name === name);
    if (param) return meaningIn(param.value, nodes, new Set()) ?? { kind: "number" };
  }
  return { kind: "number" };
}

/** Follows a value through copies, exchanges, slices and bodies to the first op that gives it a meaning. */
function meaningIn(value: Value, nodes: readonly Node[], seen: Set<Value>): Meaning | null {
  if (seen.has(value)) return null;
  seen.add(value);
  for (const node of consumers(nodes).get(value) ?? []) {
    const found = meaningAt(node, node.operands.indexOf(value), nodes, seen);
    if (found) return found;
  }
  return null;
}

function meaningAt(node: Node, at: number, nodes: readonly Node[], seen: Set<Value>): Meaning | null {
  const sizes = (operand: number) => node.operands[operand].type.dims.map((dim) => dim.size);
  if (node.op === "embedding" && at === 0) return { kind: "below", limit: sizes(1)[0] };
  if (node.op === "embedding_grad" && at === 0)
    return { kind: "below", limit: node.attrs.vocabulary as number };
  if (node.op.startsWith("cross_entropy") && at === 1) return { kind: "labels", limit: sizes(0).at(-1) ?? 1 };
  if (node.op === "rope_table") return { kind: "positions" };
  if (node.op.startsWith("attention"))
    return { kind: node.attrs.packed === false ? "document" : "documents" };
  if (node.body) return meaningInBody(node.body, at, seen);
  const copies = node.results.length === node.operands.length ? [node.results[at]] : node.results;
  const [found] = copies.flatMap((result) =>
    result.type.dtype === "i32" ? (meaningIn(result, nodes, seen) ?? []) : [],
  );
  return found ?? null;
}

function meaningInBody(body: Region, at: number, seen: Set<Value>): Meaning | null {
  return meaningIn(body.params[at], body.nodes, seen);
}
