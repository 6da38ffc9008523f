/**
 * @file Tiles the loss: logits exist for a few tokens at a time, never whole (ALST, arXiv:2506.13996, section 3.1).
 *
 *     %logits = matmul %h, %lm_head transpose_b=true                 : f32[1, 4096, 32000]
 *     %loss, %count, %lse = cross_entropy %logits, %labels
 *     %d.logits = cross_entropy_grad %logits, %labels, %lse, %d.loss : f32[1, 4096, 32000]
 *     %d.h = matmul %d.logits, %lm_head
 *     %d.lm_head = matmul %d.logits, %h transpose_a=true
 *
 *   becomes
 *
 *     %loss, %count, %d.h, %d.lm_head = tile %h, %lm_head, %labels, %d.loss tiles=8 split=[1, -1, 1, -1] join=[-1, -1, 1, -1] {
 *       ... the same five, on 512 tokens
 *     }
 *
 * It runs behind differentiate, so that the gradients are made while a tile's logits are still at hand: forward does not
 * run twice, as it does where tiling hides from the differentiator. Each token's loss depends on its own logits alone,
 * and sums over tokens (the loss, the weight's gradient) are added up tile by tile in f32. Memory for logits falls to
 * that of one tile; the price is one pass over the weight's gradient per tile, within the product that makes it.
 */
import { Builder } from "../ir/build.ts";
import { consumers, escaping, type Graph, type Node, producers, type Value } from "../ir/graph.ts";
import { recordOf } from "../ir/ops/index.ts";
import { type Cut, tileType } from "../ir/ops/region.ts";
import { localBytes, localSizes } from "../ir/type.ts";
import { cutInto } from "./cut.ts";
import { definePass } from "./pass.ts";

export const tileLoss = definePass({
  name: "tile-loss",
  summary: "computes the loss and its gradients for a few tokens at a time",
  numerics: "reordered",
  requires: ["differentiated"],
  establishes: [],
  /** tiles 0: as many as make a tile's logits at most `tile_bytes`. 1: off. */
  options: { tiles: 0, tile_bytes: 2 ** 26 },

  run(graph, { tiles, tile_bytes }) {
    const head = tiles === 1 ? null : findHead(graph);
    if (!head) return graph;
    const { logits, labels } = head;
    const dim = firstLongDimension(localSizes(logits.type, graph.mesh));
    if (dim < 0) return graph;
    const wanted = tiles > 0 ? tiles : Math.ceil(localBytes(logits.type, graph.mesh) / tile_bytes);
    const cut = cutInto(labels.type.dims[dim], wanted, graph.mesh);
    return cut.tiles > 1 ? withTile(graph, head, dim, cut) : graph;
  },
});

/** The nodes between the hidden state and its gradient, in order, and the values that go in. */
interface Head {
  readonly nodes: readonly Node[];
  readonly hidden: Value;
  readonly weight: Value;
  readonly logits: Value;
  readonly labels: Value;
  readonly seed: Value;
  readonly returns: readonly Value[];
}

/** The loss at the end of a model, if its logits are read by nothing but the loss and its gradients. */
function findHead(graph: Graph): Head | null {
  const users = consumers(graph.nodes);
  const makers = producers(graph.nodes);
  const kept = new Set(escaping(graph));
  const loss = graph.nodes.find(({ op }) => op === "cross_entropy");
  const product = loss && makers.get(loss.operands[0]);
  if (!loss || product?.op !== "matmul" || !product.attrs.transpose_b) return null;
  const [logits, labels] = loss.operands;
  const readers = users.get(logits) ?? [];
  const grad = readers.find(({ op }) => op === "cross_entropy_grad");
  if (!grad || readers.length !== 2 || kept.has(logits)) return null;
  const products = users.get(grad.results[0]) ?? [];
  const [hidden, weight] = product.operands;
  const isProduct = (node: Node) =>
    node.op === "matmul" &&
    (node.operands[1] === weight || (node.attrs.transpose_a === true && node.operands[1] === hidden));
  if (
    products.length === 0 ||
    !products.every(isProduct) ||
    (users.get(loss.results[2]) ?? []).some((node) => node !== grad)
  )
    return null;
  const nodes = [product, loss, grad, ...products];
  const returns = [loss.results[0], loss.results[1], ...products.map((node) => node.results[0])];
  // The tile stands where the gradient stood, so the loss must not be read before that.
  const before = graph.nodes.slice(0, graph.nodes.indexOf(grad));
  if (before.some((node) => node.operands.some((operand) => returns.includes(operand)))) return null;
  return { nodes, hidden, weight, logits, labels, seed: grad.operands[3], returns };
}

/** The first dimension of rows that is longer than one: parts of it are contiguous. */
function firstLongDimension(sizes: readonly number[]): number {
  const dim = sizes.findIndex((size) => size > 1);
  return dim < sizes.length - 1 ? dim : -1;
}

function withTile(graph: Graph, head: Head, dim: number, cut: Cut): Graph {
  const { nodes, hidden, weight, labels, seed, returns } = head;
  const operands = [hidden, weight, labels, seed];
  const split = [dim, -1, dim, -1];
  const inner = new Builder(graph.mesh);
  const env = new Map<Value, Value>();
  const params = operands.map((operand, i) => {
    const param = {
      name: inner.unique(operand.name),
      type: tileType(operand.type, split[i], cut),
    };
    env.set(operand, param);
    return param;
  });
  for (const node of nodes) {
    inner.loc = node.loc;
    const names = node.results.map(({ name }) => name);
    const copy = inner.add(
      recordOf(node.op),
      node.operands.map((operand) => env.get(operand) as Value),
      node.attrs,
      { name: names },
    );
    node.results.forEach((result, i) => {
      env.set(result, copy.results[i]);
    });
  }
  // The hidden state's gradient has the tokens; the loss, the count and the weight's gradient are sums over them.
  const tokens = nodes
    .filter((node) => node.op === "matmul" && !node.attrs.transpose_a)
    .map((node) => node.results[0]);
  const join = returns.map((value) => (tokens.includes(value) ? dim : -1));
  const body = inner.region(
    params,
    returns.map((value) => env.get(value) as Value),
  );
  const tile: Node = {
    op: "tile",
    operands,
    attrs: { ...cut, split, join },
    results: returns,
    body,
    loc: nodes[0].loc,
  };
  const inside = new Set(nodes);
  return {
    ...graph,
    nodes: graph.nodes.flatMap((node) => (node === nodes[2] ? [tile] : inside.has(node) ? [] : [node])),
  };
}
