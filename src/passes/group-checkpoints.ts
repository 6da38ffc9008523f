/**
 * @file Checkpoints every k layers: of a group of layers only the first one's input is kept, and backward computes the
 * others again from it (Chen et al. 2016, arXiv:1604.06174, where k is the square root of the number of layers).
 *
 *     %L0.y = checkpoint %x, %w0               : f32[1, 4096, 512] { ... }
 *     %L1.y = checkpoint %L0.y, %w1            : f32[1, 4096, 512] { ... }
 *
 *   becomes
 *
 *     %L1.y = checkpoint %x, %w0, %w1          : f32[1, 4096, 512] {
 *       param %x                               : f32[1, 4096, 512]
 *       ...
 *       %L0.y = checkpoint %x, %w0             : f32[1, 4096, 512] { ... }
 *       %L1.y = checkpoint %L0.y, %w1          : f32[1, 4096, 512] { ... }
 *       return %L1.y
 *     }
 *
 * The gradient of a checkpoint runs its body again, so that of a group makes the inputs of its layers, and then goes back
 * through them one by one, each computing its own inside again: at any time the device holds one input of each group, those
 * of one group's layers, and the inside of one layer. What a layer keeps besides its input, attention's output with the
 * policy `attention`, it keeps from there on: attention runs twice and not three times, and nothing of it waits from forward
 * to backward. The same ops run on the same numbers. The price is one more forward of all layers but the last of each
 * group, and the gradients of a group's weights, which are there together. The last group is smaller where k does not
 * divide the number of layers. It stands before differentiate and so looks at layers, whatever is in them.
 */
import { Builder } from "../ir/build.ts";
import { escaping, type Node, type Value } from "../ir/graph.ts";
import type { Mesh } from "../ir/type.ts";
import { definePass } from "./pass.ts";

export const groupCheckpoints = definePass({
  name: "group-checkpoints",
  summary: "keeps only every k-th layer's input and makes backward compute those between again",
  numerics: "exact",
  requires: ["flat"],
  establishes: [],
  /** Layers of a group; 1: every layer's input is kept. */
  options: { layers: 1 },

  run(graph, { layers }) {
    if (layers <= 1) return graph;
    const readers = new Map<Value, Node[]>();
    for (const node of graph.nodes) {
      for (const operand of node.operands) readers.set(operand, [...(readers.get(operand) ?? []), node]);
    }
    const exits = new Set(escaping(graph));
    const nodes = chains(graph.nodes).flatMap((chain) =>
      parts(chain, layers).flatMap((members) => {
        if (members.length === 1) return members;
        const isRead = (value: Value): boolean =>
          exits.has(value) || (readers.get(value) ?? []).some((reader) => !members.includes(reader));
        const results = members.flatMap((node) => node.results).filter(isRead);
        // What nobody reads is simplify's to remove.
        return results.length === 0 ? members : [groupOf(members, results, graph.mesh)];
      }),
    );
    return nodes.length === graph.nodes.length ? graph : { ...graph, nodes };
  },
});

/** Whether a node is a layer that is in no group, and no group itself. */
const isLayer = ({ op, body }: Node): boolean =>
  op === "checkpoint" && body !== null && body.nodes.every((node) => node.op !== "checkpoint");

/** Layers that follow each other, together; every other node by itself. */
function chains(nodes: readonly Node[]): Node[][] {
  const all: Node[][] = [];
  nodes.forEach((node, at) => {
    if (at > 0 && isLayer(node) && isLayer(nodes[at - 1])) all[all.length - 1].push(node);
    else all.push([node]);
  });
  return all;
}

/** `nodes` in parts of `size`, the last smaller where they don't divide. */
function parts(nodes: readonly Node[], size: number): Node[][] {
  return Array.from({ length: Math.ceil(nodes.length / size) }, (_, i) =>
    nodes.slice(i * size, (i + 1) * size),
  );
}

/** One checkpoint of all members, which gives those of their results that are read outside. */
function groupOf(members: readonly Node[], results: readonly Value[], mesh: Mesh): Node {
  const made = new Set(members.flatMap(({ results }) => results));
  const operands = [...new Set(members.flatMap((node) => node.operands))].filter((value) => !made.has(value));
  const builder = new Builder(mesh);
  const inside = new Map<Value, Value>();
  for (const value of [...operands, ...made])
    inside.set(value, { name: builder.unique(value.name), type: value.type });
  const map = (values: readonly Value[]): Value[] => values.map((value) => inside.get(value) as Value);
  for (const node of members)
    builder.nodes.push({ ...node, operands: map(node.operands), results: map(node.results) });
  const body = builder.region(map(operands), map(results));
  return { op: "checkpoint", operands, attrs: { kept: 0 }, results, body, loc: members[0].loc };
}
