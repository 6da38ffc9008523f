/**
 * @file Where the compiler decides about memory: the ways to do it, from the fastest to the one that needs least.
 *
 * A policy says what forward keeps for backward and in how many parts a layer is computed. Its price is predicted from the
 * layer's own nodes (passes/keep.ts); its memory by a formula that serves to leave out what is both slower and larger than
 * another. What a policy really needs is read off its plan: the first of the list whose plan fits the limits is taken.
 */
import type { Config } from "./config/load.ts";
import { hasDocuments } from "./data/has-documents.ts";
import { UserError } from "./ir/error.ts";
import type { Graph, Region, Value } from "./ir/graph.ts";
import { localBytes } from "./ir/type.ts";
import { possibleGroups } from "./passes/head-groups.ts";
import { type Candidate, keepChoices, layersOf, type Rates } from "./passes/keep.ts";
import { DEFAULTS, type TrainingOptions, trainingPipeline } from "./passes/pipeline.ts";
import { runPipeline } from "./passes/run.ts";

/** What decides how much memory a step takes, and how long. */
export interface Policy
  extends Pick<
    TrainingOptions,
    | "checkpointing"
    | "keep"
    | "checkpointEvery"
    | "offloadLayers"
    | "spillLayers"
    | "lossTiles"
    | "mlpTiles"
    | "projectionTiles"
    | "tileBytes"
    | "headGroups"
  > {
  /** Of the layers' values, in the order of what they save for a byte; empty but for the policy `values`. */
  readonly kept: readonly Candidate[];
  /** All values that backward reads and that keeping saves time for, in that order. */
  readonly candidates: readonly Candidate[];
  /** Predicted seconds of a step that this costs beyond computing everything once. */
  readonly seconds: number;
  /** Predicted seconds of computing all layers once. */
  readonly forward: number;
  /** Estimated bytes of one rank's layers: what they keep, and what one of them needs while it runs. */
  readonly bytes: number;
  /** The part of `bytes` that would lie in host memory if all layers' checkpoints waited there, but for three. */
  readonly movable: number;
}

/** How finely layers are cut where nobody says: not at all, into parts of 64 MiB, of 8 MiB, and heads in groups too. */
const COARSE = 2 ** 26;
const FINE = 2 ** 23;

type Cuts = Pick<Policy, "lossTiles" | "mlpTiles" | "projectionTiles" | "tileBytes" | "headGroups">;

/** The policies that a configuration allows, the fastest first. One where nothing is left to decide. */
export function policiesOf(graph: Graph, config: Config, rates: Rates): Policy[] {
  refuse(config);
  const { memory } = config;
  const { activation_checkpointing: asked, activation_offload: offload, checkpoint_every: every } = memory;
  const offloadLayers = offload === "host" ? Number.POSITIVE_INFINITY : 0;
  const layers = layerCount(graph);
  const policies = cutsOf(graph, config).flatMap((cuts): Policy[] => {
    const rolled = rolledUp(graph, config, cuts);
    const choices = keepChoices(rolled, rates);
    const [least, most] = [choices[0], choices[choices.length - 1]];
    const transient = Math.max(transientBytes(rolled), lossBytes(rolled, cuts));
    const policy = (
      checkpointing: Policy["checkpointing"],
      kept: readonly Candidate[],
      own: Partial<Policy>,
    ): Policy => ({
      ...cuts,
      checkpointing,
      keep: kept.flatMap(({ names }) => names).join(" "),
      kept,
      candidates: most.kept,
      checkpointEvery: 1,
      offloadLayers,
      spillLayers: 0,
      seconds: least.seconds,
      forward: least.seconds,
      bytes: 0,
      movable: 0,
      ...own,
    });
    const away = (kept: number) => kept * Math.max(0, 1 - 3 / Math.max(1, layers));
    const layer = policy("layer", [], { bytes: transient });
    const off = policy("off", [], { seconds: most.seconds, bytes: most.bytes + transient });
    const isAttention = ({ kept }: { kept: readonly Candidate[] }) =>
      kept.length === 1 && kept[0].op === "attention";
    const attention = choices.find(isAttention) ?? least;
    const named = {
      off,
      layer,
      attention: policy("attention", [], { seconds: attention.seconds, bytes: attention.bytes + transient }),
    };
    if (every !== "auto" && every > 1) {
      const kept = asked === "auto" ? [named.attention, named.layer] : [named[asked]];
      return kept.map((own) => sparser(own, every, layers));
    }
    if (asked !== "auto") return [named[asked]];
    // What is kept would all wait in host memory: little, and of that what is worth most.
    if (offload === "host") return cuts.headGroups > 1 ? [named.layer] : [named.attention, named.layer];
    const values = choices.slice(1, -1).map((choice) => {
      const { kept, seconds, bytes } = choice;
      const own = { seconds, bytes: bytes + transient, movable: away(bytes) };
      return isAttention(choice) ? policy("attention", [], own) : policy("values", kept, own);
    });
    return [off, ...values.reverse(), layer];
  });
  return withoutWorse(policies);
}

/**
 * Attention in as many groups of heads as can be, where the compiler may choose that and `policies` have none that does: the
 * estimates don't tell it from others, of which it can need much less. Null where there is nothing to try.
 */
export function policyInGroups(
  graph: Graph,
  config: Config,
  policies: readonly Policy[],
  rates: Rates,
): Policy | null {
  const { memory } = config;
  const mayChoose =
    memory.head_groups === "auto" &&
    memory.device_limit !== null &&
    memory.activation_checkpointing !== "attention" &&
    memory.activation_checkpointing !== "off";
  if (!mayChoose || policies.some(({ headGroups }) => headGroups > 1)) return null;
  const groups = possibleGroups(graph).at(-1) as number;
  if (groups === 1) return null;
  const asked = { ...memory, head_groups: groups, activation_checkpointing: "layer" as const };
  return policiesOf(graph, { ...config, memory: asked }, rates).at(-1) ?? null;
}

export const layerCount = (graph: Graph): number =>
  layersOf(graph).reduce((total, { times }) => total + times, 0);

/** `policy` with only the input of every `every`-th layer kept: all but the last of each group run forward once more. */
export function sparser(policy: Policy, every: number, layers: number): Policy {
  const again = layers === 0 ? 0 : (layers - Math.ceil(layers / every)) / layers;
  return { ...policy, checkpointEvery: every, seconds: policy.seconds + again * policy.forward };
}

/** Policies by what they cost, without those that another beats in memory at no more time. */
function withoutWorse(policies: readonly Policy[]): Policy[] {
  const byTime = [...policies].sort((a, b) => a.seconds - b.seconds || b.bytes - a.bytes);
  const better: Policy[] = [];
  for (const policy of byTime) {
    const last = better.at(-1);
    if (!last || policy.bytes < last.bytes) better.push(policy);
  }
  return better;
}

/** What a configuration asks of two settings at once that exclude each other. */
function refuse({ memory }: Config): void {
  const {
    activation_checkpointing: checkpointing,
    activation_offload: offload,
    head_groups: groups,
    host_spill: spill,
    checkpoint_every: every,
  } = memory;
  if (offload === "host" && checkpointing === "off") {
    throw new UserError("memory.activation_offload: host moves what checkpoints keep, and there are none", {
      remedy:
        "Set memory.activation_checkpointing to layer, attention or auto, or activation_offload to auto.",
    });
  }
  if (every !== "auto" && every > 1 && checkpointing === "off") {
    throw new UserError(
      `memory.checkpoint_every: ${every} keeps the input of one layer in ${every}, and with memory.activation_checkpointing: off every layer keeps everything`,
      {
        remedy:
          "Set memory.activation_checkpointing to layer, attention or auto, or checkpoint_every to auto.",
      },
    );
  }
  if (spill !== null && (offload === "off" || checkpointing === "off")) {
    const [key, remedy] =
      offload === "off"
        ? ["activation_offload", "auto or host"]
        : ["activation_checkpointing", "auto, layer or attention"];
    throw new UserError(
      `memory.host_spill takes what is offloaded to host memory, and with memory.${key}: off nothing is`,
      { remedy: `Set memory.${key} to ${remedy}, or leave memory.host_spill out.` },
    );
  }
  if (typeof groups === "number" && groups > 1 && checkpointing === "attention") {
    throw new UserError(
      `memory.activation_checkpointing: attention keeps what all heads give, memory.head_groups: ${groups} computes it anew`,
      { remedy: "Set memory.activation_checkpointing to layer, or memory.head_groups to off." },
    );
  }
}

/** Ways to cut layers, each finer than the one before; what the configuration says is the same in all. */
function cutsOf(graph: Graph, { memory }: Config): Cuts[] {
  const { tiled_loss, tiled_mlp, tiled_projections, head_groups } = memory;
  const tiles = (asked: "auto" | "off" | number, auto: number) =>
    asked === "auto" ? auto : asked === "off" ? 1 : asked;
  const most =
    head_groups === "auto" && memory.activation_checkpointing !== "attention" ? possibleGroups(graph) : [];
  const cut = (auto: number, tileBytes: number, groups: number): Cuts => ({
    lossTiles: tiles(tiled_loss, 0),
    mlpTiles: tiles(tiled_mlp, auto),
    projectionTiles: tiles(tiled_projections, auto),
    tileBytes,
    headGroups: tiles(head_groups, groups),
  });
  return [
    cut(1, COARSE, 1),
    ...(memory.device_limit === null ? [] : [cut(0, COARSE, 1), cut(0, FINE, 1)]),
    ...(memory.device_limit === null || most.length < 2 ? [] : [cut(0, FINE, most[most.length - 1])]),
  ];
}

/** The graph as `checkpoint` gets it: layers rolled up, exchanges and tiles in place. */
function rolledUp(graph: Graph, config: Config, cuts: Cuts): Graph {
  const stages = runPipeline(graph, trainingPipeline({ ...DEFAULTS, ...trainingOptions(config), ...cuts }), {
    stopAfter: "tile",
    verify: false,
  });
  return stages[stages.length - 1].graph;
}

/** Bytes of a layer while it runs backward: what it computes again, and as much for gradients; of tiles one part. */
function transientBytes(graph: Graph): number {
  const bytesOf = (values: readonly Value[]) =>
    values.reduce((total, { type }) => total + localBytes(type, graph.mesh), 0);
  const ofBody = ({ nodes }: Region): number =>
    nodes.reduce((total, { op, body, results }) => {
      const inside = op === "tile" && body ? ofBody(body) : 0;
      return total + 2 * bytesOf(results) + inside;
    }, 0);
  const layers = layersOf(graph).map(({ body }) => ofBody(body));
  return layers.length === 0 ? ofBody({ params: [], nodes: graph.nodes, returns: [] }) : Math.max(...layers);
}

/** Bytes of a tile's logits and of their gradient. */
function lossBytes(graph: Graph, { lossTiles, tileBytes }: Cuts): number {
  const logits = graph.nodes
    .filter(({ op }) => op === "cross_entropy")
    .map(({ operands }) => localBytes(operands[0].type, graph.mesh));
  const whole = Math.max(0, ...logits);
  return 2 * (lossTiles === 0 ? Math.min(whole, tileBytes) : whole / lossTiles);
}

/** What becomes of a value that backward reads: where it waits, or that it is computed again. */
export interface Decision extends Candidate {
  readonly where: "device" | "host" | "again";
}

/** The decisions of a policy, value by value, the one that saves most for a byte first. */
export function decisionsOf(policy: Policy): Decision[] {
  const { candidates, checkpointing, checkpointEvery, kept, offloadLayers } = policy;
  // What is kept within a group does not wait so long that it would be offloaded.
  const place = offloadLayers > 0 && checkpointEvery === 1 ? "host" : "device";
  const names = new Set(kept.flatMap((own) => own.names));
  const isKept = ({ op, names: [name] }: Candidate): boolean =>
    checkpointing === "off" || (checkpointing === "attention" ? op === "attention" : names.has(name));
  return candidates.map((own) => ({
    ...own,
    where: isKept(own) ? place : "again",
  }));
}

/** What a configuration asks of the passes, but for its policy. */
export function trainingOptions(config: Config): Omit<TrainingOptions, keyof Policy> {
  return {
    precision: config.precision,
    packed: hasDocuments(config.data),
    gradientAccumulationSteps: config.gradient_accumulation_steps,
    beta1: config.adam_beta1,
    beta2: config.adam_beta2,
    epsilon: config.adam_epsilon,
    weightDecay: config.weight_decay,
    maxGradNorm: config.max_grad_norm ?? 0,
    optimizerStates: config.memory.optimizer_offload === "host" ? "host" : "device",
  };
}
