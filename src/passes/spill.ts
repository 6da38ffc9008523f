/**
 * @file The third level of memory: of what offload sends to the host, what waits longest waits in a file (as ZeRO-Infinity's
 * activations on NVMe, Rajbhandari et al. 2021, arXiv:2104.07857).
 *
 *     %L0.y.host = offload %L0.y                        : f32<host>[1, 4096, 512]
 *     ...
 *     %d.L2.y = checkpoint %L2.y, %w3, %d.L3.y          : ...                      { ... }
 *     %L0.y.back = reload %L0.y.host                    : f32[1, 4096, 512]
 *     %d.L1.y = checkpoint %L1.y.back, %w2, %d.L2.y     : ...                      { ... }
 *     %d.L0.y = checkpoint %L0.y.back, %w1, %d.L1.y     : ...                      { ... }
 *
 *   becomes
 *
 *     %L0.y.host = offload %L0.y                        : f32<host>[1, 4096, 512]
 *     %L0.y.file = spill %L0.y.host                     : f32<file>[1, 4096, 512]
 *     ...
 *     %L0.y.host.back = fetch %L0.y.file                : f32<host>[1, 4096, 512]
 *     %d.L2.y = checkpoint %L2.y, %w3, %d.L3.y          : ...                      { ... }
 *     %L0.y.back = reload %L0.y.host.back               : f32[1, 4096, 512]
 *     %d.L1.y = checkpoint %L1.y.back, %w2, %d.L2.y     : ...                      { ... }
 *     %d.L0.y = checkpoint %L0.y.back, %w1, %d.L1.y     : ...                      { ... }
 *
 * A value goes on as soon as it is in host memory, and comes back while the layer runs that stands before the one during
 * which it goes to the device: two layers ahead of its reader. So host memory holds, of what is in the file, what two layers
 * keep: one on its way and one that is read or written, out as well as back, however many layers there are. Both ways have
 * lanes of their own, and the same bits come back. `layers` says how many layers' values go, those first that wait longest.
 * What would come back before a layer has run without it stays. The price is the file's bandwidth: where that is less than
 * what layers make in their time, they wait for it.
 */
import { Builder, building, namesOf } from "../ir/build.ts";
import type { Graph, Node, Value } from "../ir/graph.ts";
import { ops } from "../ir/ops/index.ts";
import { localBytes } from "../ir/type.ts";
import { definePass } from "./pass.ts";

export const spill = definePass({
  name: "spill",
  summary: "sends on to a file what waits longest in host memory",
  numerics: "exact",
  requires: ["differentiated"],
  establishes: [],
  /** Layers whose values go to the file, those that wait longest first; more than there are means all. */
  options: { layers: 0 },

  run(graph, { layers }) {
    const more = layers - layersInFile(graph);
    const chosen = more <= 0 ? [] : waitingValues(graph).slice(0, more).flat();
    if (chosen.length === 0) return graph;
    const builder = new Builder(graph.mesh, namesOf(graph));
    const inFile = new Map<Value, Value>();
    /** What is in host memory again. */
    const back = new Map<Value, Value>();
    graph.nodes.forEach((node, index) => {
      building(builder, () => {
        for (const { host, name, fetchAt } of chosen) {
          if (fetchAt !== index) continue;
          const file = inFile.get(host) as Value;
          back.set(host, ops.fetch(file, {}, { name: `${name}.host.back`, loc: node.loc }));
        }
        const [operand] = node.operands;
        const own = node.op === "reload" ? back.get(operand) : undefined;
        builder.nodes.push(own ? { ...node, operands: [own] } : node);
        for (const { host, name } of chosen) {
          if (node.results[0] !== host) continue;
          inFile.set(host, ops.spill(host, {}, { name: `${name}.file`, loc: node.loc }));
        }
      });
    });
    return { ...graph, nodes: builder.nodes };
  },
});

/** A value in host memory that is long not needed there. */
interface Waiting {
  readonly host: Value;
  /** Of the value that was offloaded. */
  readonly name: string;
  /** Index of the node in front of which it must begin to come back to the host. */
  readonly fetchAt: number;
}

/** How many layers read something that comes back from the file already. */
function layersInFile({ nodes }: Graph): number {
  const fetched = new Set(nodes.flatMap((node) => (node.op === "fetch" ? [node.results[0]] : [])));
  const back = nodes.flatMap((node) =>
    node.op === "reload" && fetched.has(node.operands[0]) ? [node.results[0]] : [],
  );
  return readersOf(back, nodes).size;
}

/** The layers that read one of `values`, with what they read. */
function readersOf(values: readonly Value[], nodes: readonly Node[]): Map<Node, Value[]> {
  const wanted = new Set(values);
  const readers = new Map<Node, Value[]>();
  for (const node of nodes) {
    const own =
      node.op === "checkpoint" ? [...new Set(node.operands)].filter((value) => wanted.has(value)) : [];
    if (own.length > 0) readers.set(node, own);
  }
  return readers;
}

/** What could wait in the file, by the layer that reads it, the longest wait first. */
function waitingValues({ nodes }: Graph): Waiting[][] {
  const layers = nodes.flatMap((node, index) => (node.op === "checkpoint" ? [index] : []));
  const made = new Map<Value, { readonly index: number; readonly name: string }>();
  const uses = new Map<Value, number>();
  const waiting = new Map<Value, Waiting>();
  nodes.forEach(({ operands }) => {
    for (const value of operands) uses.set(value, (uses.get(value) ?? 0) + 1);
  });
  nodes.forEach(({ op, operands: [x], results: [y] }, index) => {
    if (op === "offload") made.set(y, { index, name: x.name });
    const away = op === "reload" && uses.get(x) === 1 ? made.get(x) : undefined;
    if (!away) return;
    const between = layers.filter((layer) => away.index < layer && layer < index);
    // One layer while it goes, one while it comes: without a third nothing is gained.
    if (between.length < 3) return;
    waiting.set(y, { host: x, name: away.name, fetchAt: frontOf(between[between.length - 1], nodes) });
  });
  return [...readersOf([...waiting.keys()], nodes).values()]
    .map((values) => values.map((value) => waiting.get(value) as Waiting))
    .reverse();
}

/** The index of a layer, or of the copies to the device right in front of it: what goes there is read before more is fetched. */
function frontOf(layer: number, nodes: readonly Node[]): number {
  let front = layer;
  while (nodes[front - 1]?.op === "reload") front--;
  return front;
}

/** Bytes that the layers of an offloaded graph have in host memory and could have in the file, in the order of `layers`. */
export function spillableBytes(graph: Graph): number[] {
  return waitingValues(graph).map((values) =>
    values.reduce((total, { host }) => total + localBytes(host.type, graph.mesh), 0),
  );
}
