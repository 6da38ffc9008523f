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
import { append } from "../ir/build.ts";
import {
  allNodes,
  consumers,
  escaping,
  type Graph,
  type Node,
  producers,
  type Region,
  type Value,
} from "../ir/graph.ts";
import { recordOf } from "../ir/ops/index.ts";
import { printAttrs } from "../ir/print.ts";
import { keep, rewrite } from "../ir/rewrite.ts";
import { definePass } from "./pass.ts";
import { narrowTiles } from "./tile-casts.ts";

export const simplify = definePass({
  name: "simplify",
  summary: "removes unused and repeated computation and casts that meet",
  numerics: "reordered",
  requires: [],
  establishes: [],
  options: {},

  run: untilSettled,
});

/** One removal makes room for the next: a value that only a dead node shared can be folded once that is gone. */
function untilSettled(graph: Graph): Graph {
  const simpler = removeUnused(shareEqual(foldCasts(narrowed(graph))));
  return simpler === graph ? graph : untilSettled(simpler);
}

/** Where a tile narrows what was widened for it, it gets the narrow value. */
function narrowed(graph: Graph): Graph {
  const nodes = narrowTiles(graph.nodes);
  return nodes === graph.nodes ? graph : { ...graph, nodes };
}

/** Ops that can leave their f32 accumulator unrounded; a look-up can also give its rows in either type. */
const WIDENS = new Set(["matmul", "sum", "embedding"]);

const canGive = (op: string, dtype: unknown): boolean =>
  WIDENS.has(op) && (dtype === "f32" || (op === "embedding" && dtype === "bf16"));

const isIdleCast = (node: Node): boolean =>
  node.op === "cast" && node.attrs.dtype === node.operands[0].type.dtype;

/** A cast to the type there is, and cast(op(x)) where nobody else reads what is between. */
function foldCasts(graph: Graph): Graph {
  const all = allNodes(graph.nodes);
  const made = producers(all);
  const users = consumers(all);
  const kept = new Set([...escaping(graph), ...all.flatMap((node) => node.body?.returns ?? [])]);
  const foldable = new Map<Node, Node>();
  for (const node of all) {
    const source = node.op === "cast" ? made.get(node.operands[0]) : undefined;
    const alone = source && users.get(node.operands[0])?.length === 1 && !kept.has(node.operands[0]);
    if (source && alone && canGive(source.op, node.attrs.dtype)) foldable.set(node, source);
  }
  if (foldable.size === 0 && !all.some(isIdleCast)) return graph;
  const sources = new Set(foldable.values());
  const operandsOf = new Map<Node, readonly Value[]>();
  return rewrite(graph, {
    cast(node, { x }) {
      if (node.attrs.dtype === x.type.dtype) return x;
      const source = foldable.get(node);
      const operands = source && operandsOf.get(source);
      if (!source || !operands) return keep;
      return append(recordOf(source.op), operands, { ...source.attrs, dtype: node.attrs.dtype });
    },
    any(node, operands) {
      if (sources.has(node)) operandsOf.set(node, operands);
      return keep;
    },
  });
}

/** Nodes of equal op, attributes and operands become one, in each body apart. Ops with a body are left alone. */
function shareEqual(graph: Graph): Graph {
  const { nodes, final } = shareEqualNodes(graph.nodes);
  if (nodes === graph.nodes) return graph;
  return {
    ...graph,
    nodes,
    outputs: graph.outputs.map((output) => ({ ...output, value: final(output.value) })),
    updates: graph.updates.map((update) => ({ ...update, value: final(update.value) })),
  };
}

function shareEqualNodes(nodes: readonly Node[]): { nodes: readonly Node[]; final: (value: Value) => Value } {
  const seen = new Map<string, Node>();
  const same = new Map<Value, Value>();
  const final = (value: Value): Value => same.get(value) ?? value;
  const kept: Node[] = [];
  for (const node of nodes) {
    const operands = node.operands.map(final);
    const key = `${node.op} ${operands.map(({ name }) => name).join()} ${printAttrs(node.op, node.attrs)}`;
    const twin = node.body ? undefined : seen.get(key);
    if (twin) {
      node.results.forEach((result, i) => {
        same.set(result, twin.results[i]);
      });
      continue;
    }
    const body = node.body && shareEqualBody(node.body);
    const changed = body !== node.body || operands.some((operand, i) => operand !== node.operands[i]);
    const copy = changed ? { ...node, operands, body } : node;
    seen.set(key, copy);
    kept.push(copy);
  }
  const unchanged = kept.length === nodes.length && kept.every((node, i) => node === nodes[i]);
  return { nodes: unchanged ? nodes : kept, final };
}

function shareEqualBody(body: Region): Region {
  const { nodes, final } = shareEqualNodes(body.nodes);
  return nodes === body.nodes ? body : { ...body, nodes, returns: body.returns.map(final) };
}

/** `nodes` without those whose results are read neither by a later node nor by `exits`. */
function used(nodes: readonly Node[], exits: readonly Value[]): readonly Node[] {
  const live = new Set(exits);
  const kept: Node[] = [];
  for (const node of [...nodes].reverse()) {
    if (!node.results.some((result) => live.has(result))) continue;
    const own = node.op === "checkpoint" ? trimmed(node, live) : node;
    for (const operand of own.operands) live.add(operand);
    kept.push(own);
  }
  kept.reverse();
  return kept.length === nodes.length && kept.every((node, i) => node === nodes[i]) ? nodes : kept;
}

/** A checkpoint without the results that nobody reads: what only they need is not computed. */
function trimmed(node: Node, live: ReadonlySet<Value>): Node {
  const { results, body, attrs } = node;
  const reads = results.map((result) => live.has(result));
  if (!body || reads.every(Boolean)) return node;
  const first = results.length - (attrs.kept as number);
  return {
    ...node,
    attrs: { ...attrs, kept: reads.slice(first).filter(Boolean).length },
    results: results.filter((_, i) => reads[i]),
    body: { ...body, returns: body.returns.filter((_, i) => reads[i]) },
  };
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
