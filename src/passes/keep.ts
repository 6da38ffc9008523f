/**
 * @file Which values of a layer to keep for backward, by what each costs: its bytes, and the time to compute it again.
 *
 * Backward reads some of the values that forward makes. Keeping one of them saves computing it again, and what only it
 * needs. Beginning with nothing kept, the value is added that saves most seconds for each of its bytes, until nothing is left to
 * save: a list of choices, from the least memory to the least time (as Checkmate's knapsack, arXiv:1910.02653, solved
 * greedily). Seconds are a roofline: the operations of a node at the machine's rate, or its bytes at its bandwidth, whichever
 * takes longer. They decide an order only; what a choice really needs is read off its plan.
 */
import type { Graph, Node, Region, Value } from "../ir/graph.ts";
import { recordOf } from "../ir/ops/index.ts";
import { tileAttrs } from "../ir/tiles.ts";
import { localBytes, localSizes, type Mesh, type TensorType } from "../ir/type.ts";
import { readsOfBackward } from "./differentiate.ts";

/** What one rank does in a second. */
export interface Rates {
  readonly flops: { readonly f32: number; readonly bf16: number };
  /** Bytes read from and written to its own memory. */
  readonly bandwidth: number;
  /** Bytes between it and host memory, each way. */
  readonly hostLink: number;
  /** Bytes between host memory and the rank's file, each way. */
  readonly fileLink: number;
  /** Bytes sent to other ranks in a collective. */
  readonly rankLink: number;
}

/** One value, or those of one node together: they are kept together. */
export interface Candidate {
  readonly op: string;
  readonly names: readonly string[];
  readonly loc: string;
  /** Of all layers, on one rank. */
  readonly bytes: number;
  /** Seconds that keeping it saves, beside what comes before it in the order. */
  readonly saves: number;
}

export interface KeepChoice {
  /** In the order of what they save for a byte. */
  readonly kept: readonly Candidate[];
  readonly bytes: number;
  /** To compute again what backward reads and is not kept, all layers; and inside tiles, which always run again. */
  readonly seconds: number;
}

/** The rolled-up layers of a graph: bodies of a repeat over parameters, and how many times they run. */
export function layersOf(graph: Graph): { body: Region; times: number }[] {
  const families = new Set(
    graph.params
      .filter(({ role, value }) => role === "param" && value.type.times !== null)
      .map(({ value }) => value),
  );
  return graph.nodes.flatMap(({ op, body, operands, attrs }) =>
    op === "repeat" && body && operands.some((operand) => families.has(operand))
      ? [{ body, times: attrs.times as number }]
      : [],
  );
}

/** Choices for the layers of a graph without checkpoints, from nothing kept to all that backward reads. */
export function keepChoices(graph: Graph, rates: Rates): KeepChoice[] {
  const layers = layersOf(graph).map(({ body, times }) => new Layer(body, times, graph.mesh, rates));
  const inTiles = layers.reduce((total, layer) => total + layer.inTiles, 0);
  const secondsWith = (kept: ReadonlySet<string>) =>
    layers.reduce((total, layer) => total + layer.secondsAgain(kept), 0);
  const kept: Candidate[] = [];
  const names = new Set<string>();
  let seconds = secondsWith(names);
  const choices: KeepChoice[] = [{ kept: [], bytes: 0, seconds: seconds + inTiles }];
  for (;;) {
    const gains = candidatesOf(layers, names).map((candidate) => {
      const now = secondsWith(new Set([...names, ...candidate.names]));
      return { candidate, now, worth: (seconds - now) / candidate.bytes };
    });
    const best = gains.reduce<(typeof gains)[number] | null>(
      (first, own) => (own.worth > (first?.worth ?? 0) ? own : first),
      null,
    );
    if (!best) return choices;
    kept.push({ ...best.candidate, saves: seconds - best.now });
    for (const name of best.candidate.names) names.add(name);
    seconds = best.now;
    const bytes = kept.reduce((total, own) => total + own.bytes, 0);
    choices.push({ kept: [...kept], bytes, seconds: seconds + inTiles });
  }
}

/** Values that would be computed again, over all layers; equal names in several are kept together. */
function candidatesOf(layers: readonly Layer[], kept: ReadonlySet<string>): Candidate[] {
  const byName = new Map<string, Candidate>();
  for (const layer of layers) {
    for (const node of layer.again(kept)) {
      if (recordOf(node.op).alias || node.results.some(({ name }) => kept.has(name))) continue;
      const names = node.results.map(({ name }) => name);
      const before = byName.get(names[0])?.bytes ?? 0;
      byName.set(names[0], {
        op: node.op,
        names,
        loc: node.loc,
        saves: 0,
        bytes: before + layer.times * bytesOf(node.results, layer.mesh),
      });
    }
  }
  return [...byName.values()];
}

class Layer {
  readonly times: number;
  readonly mesh: Mesh;
  /** Seconds that the insides of tiles run again for, all layers. */
  readonly inTiles: number;
  readonly #body: Region;
  readonly #reads: ReadonlySet<Value>;
  readonly #seconds: ReadonlyMap<Node, number>;

  constructor(body: Region, times: number, mesh: Mesh, rates: Rates) {
    this.times = times;
    this.mesh = mesh;
    this.#body = body;
    this.#reads = readsOfBackward(body, mesh);
    this.#seconds = new Map(body.nodes.map((node) => [node, secondsOf(node, mesh, rates)]));
    this.inTiles = body.nodes.reduce((total, { op, body: inner, attrs }) => {
      if (op !== "tile" || !inner) return total;
      return total + new Layer(inner, times * (attrs.tiles as number), mesh, rates).secondsAgain(new Set());
    }, 0);
  }

  /** Nodes that run again in backward where the named values are kept. */
  again(kept: ReadonlySet<string>): Node[] {
    const needed = new Set([...this.#reads].filter(({ name }) => !kept.has(name)));
    return [...this.#body.nodes].reverse().filter((node) => {
      const runs = node.results.some((result) => needed.has(result) && !kept.has(result.name));
      if (runs) for (const operand of node.operands) needed.add(operand);
      return runs;
    });
  }

  secondsAgain(kept: ReadonlySet<string>): number {
    return (
      this.times * this.again(kept).reduce((total, node) => total + (this.#seconds.get(node) as number), 0)
    );
  }
}

const bytesOf = (values: readonly Value[], mesh: Mesh): number =>
  values.reduce((total, { type }) => total + localBytes(type, mesh), 0);

/** Seconds of a node on one rank; of a region, those of its nodes in all turns. */
function secondsOf(node: Node, mesh: Mesh, rates: Rates): number {
  if (node.body) {
    const turns = node.op === "tile" ? tileAttrs(node).tiles : 1;
    return turns * node.body.nodes.reduce((total, own) => total + secondsOf(own, mesh, rates), 0);
  }
  const { sends, cost } = recordOf(node.op);
  if (sends) {
    const [given, results] = [node.operands, node.results].map((values) => values.map(({ type }) => type));
    return sends(given, node.attrs, { results, mesh }) / rates.rankLink;
  }
  const share = ({ type }: Value): TensorType => ({
    ...type,
    dims: localSizes(type, mesh).map((size) => ({ size, axes: [] })),
  });
  const { flops, bytes } = cost(node.operands.map(share), node.attrs, node.results.map(share));
  const isBf16 = node.operands[0]?.type.dtype === "bf16";
  return Math.max(flops / rates.flops[isBf16 ? "bf16" : "f32"], bytes / rates.bandwidth);
}
