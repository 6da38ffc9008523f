/** @file A graph as blocks of layers, so that a model of eighty layers is a page and not a wall. */
import { costOf } from "../ir/flops.ts";
import type { Graph, Node } from "../ir/graph.ts";
import { printAttrs, printNode } from "../ir/print.ts";
import { printType } from "../ir/type.ts";
import { layerOf } from "../plan/anatomy.ts";
import type { ViewBlock, ViewNode } from "./view-data.ts";

type Phase = ViewBlock["phase"];

/** Blocks in program order; neighbours that differ in nothing but the number of their layer are one. */
export function blocksOf(graph: Graph): ViewBlock[] {
  const blocks: { title: string; phase: Phase; times: number; nodes: Node[] }[] = [];
  for (const { node, layer, phase } of placed(graph)) {
    const last = blocks.at(-1);
    // What is recomputed as one is still the layer's own nodes.
    const nodes = withoutCheckpoints([node]);
    if (node.op === "repeat" && node.body) {
      const times = node.attrs.times as number;
      blocks.push({ title: layer || "body", phase, times, nodes: [...node.body.nodes] });
    } else if (last && last.title === layer && last.phase === phase) {
      last.nodes.push(...nodes);
    } else {
      blocks.push({ title: layer, phase, times: 1, nodes: [...nodes] });
    }
  }
  return folded(blocks.map((block) => ({ ...block, nodes: block.nodes.map(viewNode) })));
}

/** Nodes of checkpoints, and of checkpoints in them, in their place. */
function withoutCheckpoints(nodes: readonly Node[]): readonly Node[] {
  return nodes.flatMap((node) =>
    node.op === "checkpoint" && node.body ? withoutCheckpoints(node.body.nodes) : [node],
  );
}

interface Placed {
  readonly node: Node;
  readonly layer: string;
  readonly phase: Phase;
}

/** The layer of each node is that of the weight it reads, or of the node before it. */
function placed({ params, nodes }: Graph): Placed[] {
  const weights = new Map(
    params.filter(({ role }) => role === "param").map(({ value }) => [value.name, layerOf(value.name)]),
  );
  let layer = "";
  let phase: Phase = "forward";
  return nodes.map((node) => {
    const own = node.operands.map(({ name }) => weights.get(name)).find((name) => name !== undefined);
    if (own !== undefined) layer = own;
    // A cast of a weight stands for it from here on.
    if (own !== undefined && node.op === "cast") weights.set(node.results[0].name, own);
    if (node.op === "adamw") phase = "optimizer";
    else if (phase === "forward" && node.results.some(({ name }) => name.startsWith("d.")))
      phase = "backward";
    return { node, layer, phase };
  });
}

function viewNode(node: Node): ViewNode {
  const { flops, bytes } = costOf([node]);
  return {
    op: node.op,
    attrs: printAttrs(node.op, node.attrs).trim(),
    operands: node.operands.map(({ name }) => name),
    results: node.results.map(({ name, type }) => ({ name, type: printType(type) })),
    loc: node.loc,
    flops,
    bytes,
    body: node.body ? node.body.nodes.map((own) => printNode(own, "").replace(/ {2,}/g, "  ")) : [],
  };
}

/** All of a block but the names: its ops, attributes, types, and which node of its own each operand comes from. */
function shapeOf({ phase, nodes }: ViewBlock): string {
  const makers = new Map(nodes.flatMap(({ results }, i) => results.map(({ name }) => [name, i])));
  return JSON.stringify([
    phase,
    nodes.map(({ op, attrs, operands, results, body }) => [
      op,
      attrs,
      operands.map((name) => makers.get(name) ?? -1),
      results.map(({ type }) => type),
      body.length,
    ]),
  ]);
}

const numbered = /^(.*\.)(\d+)$/;

function folded(blocks: readonly ViewBlock[]): ViewBlock[] {
  const result: (ViewBlock & { readonly shape: string; readonly last: string })[] = [];
  for (const block of blocks) {
    const shape = shapeOf(block);
    const before = result.at(-1);
    const isNext = numbered.exec(block.title)?.[1] === numbered.exec(before?.title ?? "")?.[1];
    if (before && isNext && numbered.test(block.title) && before.shape === shape)
      result[result.length - 1] = { ...before, times: before.times + 1, last: block.title };
    else result.push({ ...block, shape, last: block.title });
  }
  return result.map(({ shape: _, last, ...block }) => ({
    ...block,
    title: last === block.title ? block.title || "before the layers" : `${block.title} to ${last}`,
  }));
}
