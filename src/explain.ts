/** @file Why a plan is as it is: each choice with its reason and its numbers. */
import type { Trial } from "./choose.ts";
import type { Config } from "./config/load.ts";
import type { Forecast } from "./forecast.ts";
import { printType } from "./ir/type.ts";
import { printBytes, printSeconds } from "./ir/units.ts";
import { decisionsOf } from "./policies.ts";

/** One choice. */
export interface Reason {
  /** The setting, or what of the machine was assumed. */
  readonly choice: string;
  readonly value: string;
  readonly why: string;
}

const keeping = {
  off: "everything that backward reads is kept",
  attention: "a layer keeps its input and attention's output, and computes the rest again",
  layer: "a layer keeps its input and computes everything again",
} as const;

/** In the order in which the compiler comes to them. */
export function reasonsOf(config: Config, forecast: Forecast): Reason[] {
  return [
    ...parallelReasons(config, forecast),
    ...policyReasons(config, forecast),
    ...valueReasons(forecast),
    lossReason(config, forecast),
    ...forecast.assumptions.map(({ setting, says }) => ({
      choice: setting,
      value: "asked for",
      why: `${says}; no pass does it yet, so it is counted by formula`,
    })),
    peakReason(forecast),
    ...timeReasons(forecast),
  ];
}

function parallelReasons({ parallel }: Config, { machine, ranks }: Forecast): Reason[] {
  if (ranks === 1) return [];
  const link =
    ranks > machine.gpusPerNode
      ? `the network, ${rate(machine.network)}`
      : `the node's link, ${rate(machine.nodeLink)}`;
  return [
    {
      choice: "parallel",
      value: `sequence ${parallel.sequence}, data ${parallel.data}`,
      why: `as asked; collectives cross ${link}`,
    },
  ];
}

/** How a layer is computed and what it keeps, as short as it can be said. */
function policyText(
  {
    checkpointing,
    kept,
    checkpointEvery,
    offloadLayers,
    spillLayers,
    mlpTiles,
    projectionTiles,
    headGroups,
  }: Trial,
  tokens: number,
): string {
  // More tiles than tokens can't be.
  const parts = (tiles: number, what: string): string[] =>
    tiles === 1 ? [] : [tiles === 0 ? `${what} in tiles` : `${what} in ${Math.min(tiles, tokens)} tiles`];
  const values = kept.flatMap(({ names }) => names.map((name) => `%${name}`));
  const keeps =
    checkpointing === "values" ? `a layer keeps its input and ${values.join(", ")}` : keeping[checkpointing];
  return [
    keeps,
    ...(checkpointEvery > 1
      ? [
          `only the inputs of every ${checkpointEvery} layers' first wait, those between are computed again group by group`,
        ]
      : []),
    ...parts(mlpTiles, "MLP"),
    ...parts(projectionTiles, "projections"),
    ...(headGroups > 1 ? [`attention in ${headGroups} groups of heads`] : []),
    ...(offloadLayers > 0
      ? [`checkpoints of ${Number.isFinite(offloadLayers) ? offloadLayers : "all"} layers in host memory`]
      : []),
    ...(spillLayers > 0 ? [`those of ${spillLayers} layers go on to the file`] : []),
  ].join("; ");
}

function policyReasons(config: Config, { planned }: Forecast): Reason[] {
  const { trials, policies } = planned;
  const asked = config.memory.activation_checkpointing;
  const tokens = config.micro_batch_size * Math.ceil(config.sequence_length / config.parallel.sequence);
  const choice =
    policies.length === 1
      ? "the configuration leaves one policy"
      : `${policies.length} policies, the fastest that fits is taken (memory.activation_checkpointing: ${asked})`;
  return trials.map((trial, i): Reason => {
    const { checkpointing, deviceBytes, hostBytes, fileBytes, excess, seconds } = trial;
    const file = fileBytes > 0 ? `, ${printBytes(fileBytes)} in the file` : "";
    const needs = `${printBytes(deviceBytes)} of device and ${printBytes(hostBytes)} of host memory${file}`;
    const isLast = i === trials.length - 1;
    return {
      choice: isLast ? "memory, taken" : "memory, tried",
      value: checkpointing,
      why: `${policyText(trial, tokens)}: ${needs}, ${excess === null ? "fits" : "does not fit"}; computing again costs about ${printSeconds(seconds)}${isLast ? `; ${choice}` : ""}`,
    };
  });
}

function waiting(where: "device" | "host" | "again", { offloadLayers }: Trial): string {
  if (where === "again") return "computed again";
  if (where === "device") return "kept";
  return Number.isFinite(offloadLayers)
    ? `kept, of ${offloadLayers} layer${offloadLayers > 1 ? "s" : ""} in host memory`
    : "kept in host memory";
}

/** What becomes of every value of a layer that backward reads, what saves most for its bytes first. */
function valueReasons({ planned }: Forecast): Reason[] {
  const taken = planned.trials.at(-1);
  if (!taken) return [];
  return decisionsOf(taken).map(
    ({ names, loc, bytes, saves, where }): Reason => ({
      choice: names.map((name) => `%${name}`).join(", "),
      value: waiting(where, taken),
      why: `${loc}: ${printBytes(bytes)} in all layers of a rank; computing it again takes about ${printSeconds(saves)}`,
    }),
  );
}

function lossReason(config: Config, { planned, anatomy }: Forecast): Reason {
  const { plan } = planned;
  const asked = config.memory.tiled_loss;
  const loss = plan.steps.find(({ node }) => node.op === "cross_entropy");
  const logits = loss?.inputs[0];
  const tiles = loss?.loops.length ? plan.loops[loss.loops.at(-1) as number].times : 1;
  const isTiled = anatomy.turn !== null && tiles > 1;
  const type = logits ? printType(logits.type) : "";
  const bytes = logits ? printBytes(plan.buffers[logits.buffer].bytes) : "";
  return {
    choice: "memory.tiled_loss",
    value: isTiled ? `${tiles} tiles` : "off",
    why: isTiled
      ? `${asked === "auto" ? "as many as keep a tile's logits near 64 MiB" : tiles < Number(asked) ? `fewer than the ${asked} asked for, of whole tokens` : "as asked"}: ${type}, ${bytes} a rank`
      : asked === "auto"
        ? `the logits are ${bytes} a rank: one tile`
        : `as asked: the logits exist whole, ${bytes} a rank`,
  };
}

function peakReason({ planned, device, limits }: Forecast): Reason {
  const step = planned.plan.steps[device.peakStep];
  const [largest] = device.alive;
  const place = step && step.node.loc !== "" ? ` at ${step.node.loc}` : "";
  const limit = limits.device === null ? "there is no limit" : `the limit is ${printBytes(limits.device)}`;
  return {
    choice: "peak of device memory",
    value: printBytes(device.peakBytes),
    why: `at step ${device.peakStep}, ${step?.node.op ?? "nothing"}${place}; most is %${largest?.name} with ${printBytes(largest?.bytes ?? 0)}; ${limit}`,
  };
}

const rate = (bytesPerSecond: number): string => `${(bytesPerSecond / 1e9).toFixed(0)} GB/s`;
const flops = (perSecond: number): string => `${(perSecond / 1e12).toFixed(1)} TFLOP/s`;
const part = (share: number): string => `${(share * 100).toFixed(0)}%`;

function timeReasons({ machine, timeline, loads, stepSeconds }: Forecast): Reason[] {
  const { efficiency, peakFlops } = machine;
  const { busy } = timeline;
  return [
    {
      choice: "rates",
      value: machine.name,
      why: `bf16 ${flops(peakFlops.bf16)}, f32 ${flops(peakFlops.f32)}, of which products reach ${part(efficiency.matmul)}, attention ${part(efficiency.attention)} forward and ${part(efficiency.attentionGrad)} backward; memory ${rate(machine.deviceBandwidth)}, of which ${part(efficiency.memory)}; host link ${rate(machine.hostLink)}, file ${rate(machine.fileLink)}`,
    },
    {
      choice: "step time",
      value: printSeconds(stepSeconds),
      why: `compute ${printSeconds(busy.compute)}, collectives ${printSeconds(busy.comm + loads.comm)}, to host ${printSeconds(busy.to_host + loads.to_host)}, to device ${printSeconds(busy.to_device + loads.to_device)}, to and from the file ${printSeconds(busy.to_file + busy.from_file)} beside each other; the optimizer's copies ${printSeconds(loads.update)} after them`,
    },
  ];
}
