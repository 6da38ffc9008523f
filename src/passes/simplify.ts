/**
 * @file Removes what other passes left behind: values nobody reads, the same computation made twice, casts that meet.
 *
 *     %d.w.1 = matmul %d.y, %x transpose_a=true                  : bf16[16, 4]
 *     %d.w = cast %d.w.1                                         : f32[16, 4]
 *
 *   becomes
 *
 *     %d.w = matmul %d.y, %x transpose_a=true dtype=f32          : f32[16, 4]
 *
 * so that a weight's gradient leaves its f32 accumulator without being rounded to bf16 on the way. Nothing relies on
 * this pass but speed and memory. Numbers are the same or, where such a rounding falls away, closer to exact.
 */
import {
  consumers,
  escaping,
  type Graph,
  type Node,
  producers,
  type Region,
  type Value,
} from "../ir/graph.ts";
import { ops } from "../ir/ops/index.ts";
import { keep, rewrite } from "../ir/rewrite.ts";
import { definePass } from "./pass.ts";

export const simplify = definePass({
  name: "simplify",
  summary: "removes unused and repeated computation and casts that meet",
  numerics: "reordered",
  requires: [],
  establishes: [],
  options: {},

  run: (graph) => removeUnused(shareEqual(foldCasts(graph))),
});

/** Ops that can write their result in another element type than their operands'. */
const WIDENS = new Set(["matmul", "sum", "embedding"]);

const isIdleCast = (node: Node): boolean =>
  node.op === "cast" && node.attrs.dtype === node.operands[0].type.dtype;

/** A cast to the type there is, and cast(op(x)) where nobody else reads what is between. Bodies are left alone. */
function foldCasts(graph: Graph): Graph {
  const made = producers(graph.nodes);
  const users = consumers(graph.nodes);
  const kept = new Set(escaping(graph));
  const foldable = new Map<string, Node>();
  for (const node of graph.nodes) {
    const source = node.op === "cast" ? made.get(node.operands[0]) : undefined;
    const alone = source && users.get(node.operands[0])?.length === 1 && !kept.has(node.operands[0]);
    if (source && alone && WIDENS.has(source.op)) foldable.set(node.results[0].name, source);
  }
  if (foldable.size === 0 && !graph.nodes.some(isIdleCast)) return graph;
  const sources = new Set(foldable.values());
  const operandsOf = new Map<string, readonly Value[]>();
  return rewrite(graph, {
    cast(node, { x }) {
      if (node.attrs.dtype === x.type.dtype) return x;
      const source = foldable.get(node.results[0].name);
      const operands = source && operandsOf.get(source.results[0].name);
      if (!source || !operands) return keep;
      const op = ops[source.op as "sum"] as unknown as (...args: unknown[]) => Value;
      return op(...operands, { ...source.attrs, dtype: node.attrs.dtype });
    },
    any(node, operands) {
      if (sources.has(node)) operandsOf.set(node.results[0].name, operands);
      return keep;
    },
  });
}

/** Nodes of equal op, attributes and operands become one. Ops with a body are compared by identity. */
function shareEqual(graph: Graph): Graph {
  const seen = new Map<string, Node>();
  const same = new Map<Value, Value>();
  const nodes: Node[] = [];
  for (const node of graph.nodes) {
    const operands = node.operands.map((operand) => same.get(operand) ?? operand);
    const key = `${node.op} ${operands.map(({ name }) => name).join()} ${JSON.stringify(node.attrs)}`;
    const twin = node.body ? undefined : seen.get(key);
    if (twin) {
      node.results.forEach((result, i) => {
        same.set(result, twin.results[i]);
      });
      continue;
    }
    const moved = operands.some((operand, i) => operand !== node.operands[i]);
    const copy = moved ? { ...node, operands } : node;
    seen.set(key, copy);
    nodes.push(copy);
  }
  if (same.size === 0) return graph;
  const final = (value: Value): Value => same.get(value) ?? value;
  return {
    ...graph,
    nodes,
    outputs: graph.outputs.map((output) => ({ ...output, value: final(output.value) })),
    updates: graph.updates.map((update) => ({ ...update, value: final(update.value) })),
  };
}

/** `nodes` without those whose results are read neither by a later node nor by `exits`. */
function used(nodes: readonly Node[], exits: readonly Value[]): readonly Node[] {
  const live = new Set(exits);
  const kept: Node[] = [];
  for (const node of [...nodes].reverse()) {
    if (!node.results.some((result) => live.has(result))) continue;
    for (const operand of node.operands) live.add(operand);
    kept.push(node);
  }
  return kept.length === nodes.length ? nodes : kept.reverse();
}

function cleanBody(body: Region): Region {
  const nodes = used(body.nodes.map(cleanNode), body.returns);
  return nodes.length === body.nodes.length && nodes.every((node, i) => node === body.nodes[i])
    ? body
    : { ...body, nodes };
}

function cleanNode(node: Node): Node {
  const body = node.body && cleanBody(node.body);
  return body === node.body ? node : { ...node, body };
}

function removeUnused(graph: Graph): Graph {
  const cleaned = graph.nodes.map(cleanNode);
  const nodes = used(cleaned, escaping(graph));
  const same = nodes.length === graph.nodes.length && nodes.every((node, i) => node === graph.nodes[i]);
  return same ? graph : { ...graph, nodes };
}
