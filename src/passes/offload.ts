/**
 * @file Activation offload: what layers keep for backward waits in host memory (Rhu et al. 2016, arXiv:1602.08124).
 *
 *     %L0.y = checkpoint %x, %w0                    : f32[1, 4096, 512] { ... }
 *     ...
 *     %d.L1.y = checkpoint %L1.y, %w2, %d.L2.y      : ...               { ... }
 *     %d.L0.y = checkpoint %L0.y, %w1, %d.L1.y      : ...               { ... }
 *
 *   becomes
 *
 *     %L0.y = checkpoint %x, %w0                    : f32[1, 4096, 512] { ... }
 *     %L0.y.host = offload %L0.y                    : f32<host>[1, 4096, 512]
 *     ...
 *     %L0.y.back = reload %L0.y.host                : f32[1, 4096, 512]
 *     %d.L1.y = checkpoint %L1.y, %w2, %d.L2.y      : ...               { ... }
 *     %d.L0.y = checkpoint %L0.y.back, %w1, %d.L1.y : ...               { ... }
 *
 * A layer is a checkpoint here. What it keeps is whatever lies idle while two layers or more run and is then read by a
 * layer: its input, and what the policy `attention` adds. It goes out as soon as it is made and comes back while the layer
 * before its reader runs, on lanes of their own; the same bits come back. The device then holds what two layers keep,
 * however many there are, and the host the rest. `layers` says how many layers' values go: those that wait longest. The
 * others stay, which costs the device their bytes and saves two copies.
 */
import { Builder, building, namesOf } from "../ir/build.ts";
import { escaping, type Graph, type Value } from "../ir/graph.ts";
import { ops } from "../ir/ops/index.ts";
import { localBytes } from "../ir/type.ts";
import { definePass } from "./pass.ts";

export const offload = definePass({
  name: "offload",
  summary: "keeps in host memory what layers keep for backward",
  numerics: "exact",
  requires: ["differentiated"],
  establishes: [],
  /** Layers whose values go to the host, those that wait longest first; more than there are means all. */
  options: { layers: 0 },

  run(graph, { layers }) {
    const more = layers - layersAway(graph);
    const chosen = more <= 0 ? [] : idleValues(graph).slice(-more).flat();
    if (chosen.length === 0) return graph;
    const builder = new Builder(graph.mesh, namesOf(graph));
    /** What stands for a value from here on. */
    const now = new Map<Value, Value>();
    const away = new Map<Value, Value>();
    graph.nodes.forEach((node, index) => {
      building(builder, () => {
        for (const { value, back } of chosen) {
          if (back !== index) continue;
          now.set(
            value,
            ops.reload(away.get(value) as Value, {}, { name: `${value.name}.back`, loc: node.loc }),
          );
        }
        const operands = node.operands.map((operand) => now.get(operand) ?? operand);
        builder.nodes.push(
          operands.some((own, i) => own !== node.operands[i]) ? { ...node, operands } : node,
        );
        for (const { value } of chosen) {
          if (!node.results.includes(value)) continue;
          away.set(value, ops.offload(value, {}, { name: `${value.name}.host`, loc: node.loc }));
        }
      });
    });
    return { ...graph, nodes: builder.nodes };
  },
});

/** How many layers read something that comes back from the host already. */
function layersAway({ nodes }: Graph): number {
  const back = new Set(nodes.flatMap((node) => (node.op === "reload" ? [node.results[0]] : [])));
  return nodes.filter(({ op, operands }) => op === "checkpoint" && operands.some((own) => back.has(own)))
    .length;
}

/** A value that a layer reads again after others have run. */
interface Idle {
  readonly value: Value;
  /** Index of the node in front of which it must begin to come back. */
  readonly back: number;
}

/** The idle values of each layer that reads some, in the order in which they read them. */
function idleValues({ nodes, outputs, updates, ...rest }: Graph): Idle[][] {
  const uses = new Map<Value, number[]>();
  nodes.forEach((node, index) => {
    for (const value of new Set([...node.results, ...node.operands])) {
      if (node.results.includes(value)) uses.set(value, []);
      uses.get(value)?.push(index);
    }
  });
  for (const value of escaping({ nodes, outputs, updates, ...rest })) uses.delete(value);
  const layers = nodes.flatMap((node, index) => (node.op === "checkpoint" ? [index] : []));
  const byReader = new Map<number, Idle[]>(layers.map((layer) => [layer, []]));
  for (const [value, indices] of uses) {
    if (value.type.memory !== "device") continue;
    for (let i = 1; i < indices.length; i++) {
      const between = layers.filter((layer) => indices[i - 1] < layer && layer < indices[i]);
      const idle = byReader.get(indices[i]);
      if (between.length < 2 || !idle) continue;
      idle.push({ value, back: between[between.length - 1] });
      break;
    }
  }
  return [...byReader.values()].filter((idle) => idle.length > 0);
}

/** Bytes that the layers of a differentiated graph keep for backward and could keep in host memory, in the order of `layers`. */
export function offloadableBytes(graph: Graph): number[] {
  return idleValues(graph)
    .reverse()
    .map((idle) => idle.reduce((total, { value }) => total + localBytes(value.type, graph.mesh), 0));
}
