/**
 * @file What a configuration would need and how fast it would be on a machine, without that machine: the plan of the
 * compiler, formulas for what no pass does yet, allowances for what lies outside the plan, and a roofline.
 */
import { adviceFor, type Tried } from "./advice.ts";
import type { Needs, Trial } from "./choose.ts";
import { type Planned, planConfig } from "./compile.ts";
import { unavailable } from "./config/availability.ts";
import type { Config } from "./config/load.ts";
import type { ConfigValues } from "./config/schema.ts";
import { parameterCount } from "./ir/flops.ts";
import { recordOf } from "./ir/ops/index.ts";
import { arenaBytes, type Plan, peak, type Step } from "./ir/plan.ts";
import type { Memory } from "./ir/type.ts";
import type { Rates } from "./passes/keep.ts";
import { placeBest } from "./passes/placement.ts";
import { type Anatomy, anatomyOf, type Part } from "./plan/anatomy.ts";
import { projected } from "./plan/formulas.ts";
import { type Loads, loadsOf } from "./plan/loads.ts";
import { type Allowance, allowancesFor, cpuMachine, hostAllowance, type Machine } from "./plan/machines.ts";
import { type Assumption, assumptionsOf, type Projection } from "./plan/projection.ts";
import { type MemoryReport, reportOf } from "./plan/report.ts";
import { type Timeline, timelineOf } from "./plan/roofline.ts";

/** What a rank may have; null: no limit. */
export interface Limits {
  readonly device: number | null;
  readonly host: number | null;
}

export interface Forecast {
  readonly planned: Planned & { readonly plan: Plan };
  readonly machine: Machine;
  readonly ranks: number;
  readonly limits: Limits;
  readonly anatomy: Anatomy;
  /** The buffers under all settings. */
  readonly parts: readonly Part[];
  readonly device: MemoryReport;
  readonly host: MemoryReport;
  readonly file: MemoryReport;
  readonly timeline: Timeline;
  /** What formulas add to the timeline. */
  readonly loads: Loads;
  readonly stepSeconds: number;
  readonly allowances: readonly Allowance[];
  readonly assumptions: readonly Assumption[];
  /** What is wrong where it does not fit; null where it does. */
  readonly excess: string | null;
}

/** The configuration without what no pass does yet, and that by itself for the formulas. */
function withoutUnbuilt(config: Config): { config: Config; settings: Projection } {
  const values = config as unknown as ConfigValues;
  const unbuilt = new Set(unavailable.filter(({ isWanted }) => isWanted(values)).map(({ key }) => key));
  const { parallel, memory } = config;
  const isUnbuilt = (key: string): boolean => unbuilt.has(key);
  const settings: Projection = {
    ranks: parallel.sequence * parallel.data,
    zeroStage: isUnbuilt("parallel.zero_stage") ? parallel.zero_stage : 0,
    parameterOffload: isUnbuilt("memory.parameter_offload"),
    weightBytes: config.precision === "bf16" ? 2 : 4,
    accumulates: config.gradient_accumulation_steps > 1,
  };
  return {
    settings,
    config: {
      ...config,
      parallel: { ...parallel, zero_stage: settings.zeroStage > 0 ? 0 : parallel.zero_stage },
      memory: {
        ...memory,
        parameter_offload: settings.parameterOffload ? "off" : memory.parameter_offload,
      },
    },
  };
}

/** Bytes of each memory that a plan needs of a rank, all counted. */
interface Count {
  readonly anatomy: Anatomy;
  readonly parts: readonly Part[];
  readonly deviceArena: number;
  readonly hostArena: number;
  readonly fileArena: number;
  readonly allowances: readonly Allowance[];
  readonly hostAllowances: readonly Allowance[];
}

/**
 * Arenas are placed in full, but for what exceeds its limit before it is placed: where no arena could fit, its lower bound
 * says so as well.
 */
function countOf(
  plan: Plan,
  settings: Projection,
  isGpu: boolean,
  limits: Limits = { device: null, host: null },
): Count {
  const anatomy = anatomyOf(plan);
  const parts = projected(anatomy, settings);
  const isPlaced = parts === anatomy.parts && plan.deviceBytes > 0;
  const collectives = plan.steps
    .filter(({ node }) => recordOf(node.op).sends !== undefined)
    .map(({ node }) => ({ op: node.op, axis: node.attrs.axis as string }));
  const arenaOf = (memory: Memory): number => {
    if (isPlaced) return arenaBytes(plan, memory);
    const { bytes } = peak({ buffers: parts, steps: plan.steps }, memory);
    const limit = memory === "file" ? null : limits[memory];
    return bytes > (limit ?? Number.POSITIVE_INFINITY) ? bytes : placeBest(parts, memory).bytes;
  };
  return {
    anatomy,
    parts,
    deviceArena: arenaOf("device"),
    hostArena: arenaOf("host"),
    fileArena: arenaOf("file"),
    allowances: isGpu ? allowancesFor(collectives) : [],
    hostAllowances: isGpu ? [hostAllowance] : [],
  };
}

function needsOf({ deviceArena, hostArena, fileArena, allowances, hostAllowances }: Count): Needs {
  return {
    deviceBytes: deviceArena + totalOf(allowances),
    hostBytes: hostArena + totalOf(hostAllowances),
    fileBytes: fileArena,
  };
}

/** What kernels of a machine reach. */
function ratesOf({ peakFlops, efficiency, deviceBandwidth, hostLink, fileLink, nodeLink }: Machine): Rates {
  const { f32, bf16 } = peakFlops;
  return {
    flops: { f32: f32 * efficiency.matmul, bf16: bf16 * efficiency.matmul },
    bandwidth: deviceBandwidth * efficiency.memory,
    hostLink,
    fileLink,
    rankLink: nodeLink,
  };
}

const totalOf = (allowances: readonly Allowance[]): number =>
  allowances.reduce((total, { bytes }) => total + bytes, 0);

/** The machine's limits where the configuration sets none. A node's host memory is shared by its ranks. */
export function limitsOf({ memory, parallel }: Config, machine: Machine | null): Limits {
  const ranks = parallel.sequence * parallel.data;
  if (machine === null) return { device: memory.device_limit, host: memory.host_limit };
  return {
    device: memory.device_limit ?? machine.deviceBytes,
    host: memory.host_limit ?? machine.hostBytes / Math.min(ranks, machine.gpusPerNode),
  };
}

/** The configuration as it is compiled for `machine`. */
function withLimits(asked: Config, machine: Machine | null, { device, host }: Limits): Config {
  const memory = { ...asked.memory, device_limit: device, host_limit: host };
  return { ...asked, target: machine ? "cuda" : "cpu", memory };
}

/** Plans `config` for `machine`; null: for the CPU. */
export async function forecast(asked: Config, machine: Machine | null): Promise<Forecast> {
  const limits = limitsOf(asked, machine);
  const { config, settings } = withoutUnbuilt(withLimits(asked, machine, limits));
  const counts = new Map<Plan, Count>();
  const planned = await planConfig(config, {
    effort: "place",
    ...(machine && { rates: ratesOf(machine) }),
    needs: (plan) => {
      const count = countOf(plan, settings, machine !== null);
      counts.set(plan, count);
      return needsOf(count);
    },
  });
  const { plan } = planned;
  const count = plan && counts.get(plan);
  if (!count) throw new Error("planning ended without a plan");
  const { anatomy, parts, deviceArena, hostArena, fileArena, allowances, hostAllowances } = count;
  const steps = plan.steps.length;
  const { ranks } = settings;
  const rates = machine ?? cpuMachine(asked.threads, ranks);
  // With ZeRO a rank updates its own part of the weights.
  const isUpdate = ({ inputs, outputs }: Step): boolean =>
    [...inputs, ...outputs].some(({ buffer }) => plan.buffers[buffer].kind === "optimizer");
  const timeline = timelineOf(plan, rates, (step) =>
    settings.zeroStage > 0 && isUpdate(step) ? 1 / ranks : 1,
  );
  const loads = loadsOf(parameterCount(planned.graph), settings, rates);
  const { busy } = timeline;
  return {
    planned: { ...planned, plan },
    machine: rates,
    ranks,
    limits,
    anatomy,
    parts,
    device: reportOf(parts, "device", steps, deviceArena, allowances),
    host: reportOf(parts, "host", steps, hostArena, hostAllowances),
    file: reportOf(parts, "file", steps, fileArena),
    timeline,
    loads,
    stepSeconds:
      Math.max(
        timeline.seconds,
        busy.comm + loads.comm,
        busy.to_host + loads.to_host,
        busy.to_device + loads.to_device,
      ) + loads.update,
    allowances: [...allowances, ...hostAllowances],
    assumptions: assumptionsOf(settings),
    excess: planned.trials.at(-1)?.excess ?? null,
  };
}

/** Bytes that a step at this length needs, all counted, beside the limits. */
export interface Probe {
  readonly sequence: number;
  readonly device: number;
  readonly host: number;
}

/**
 * Plans only as far as a search must know: the policy that needs least, with all checkpoints in host memory where the
 * compiler decides about that, and, where the host has no room for all, with as many as must.
 */
export async function probe(asked: Config, machine: Machine | null, sequence: number): Promise<Probe> {
  const limits = limitsOf(asked, machine);
  const limited = withLimits({ ...asked, sequence_length: sequence }, machine, limits);
  const { activation_checkpointing: checkpointing, activation_offload: offload } = asked.memory;
  const mayOffload = offload === "auto" && checkpointing !== "off";
  const all = await trialsOf(mayOffload ? withHostOffload(limited) : limited, machine, limits);
  const { deviceBytes: device, hostBytes: host, excess } = all[all.length - 1];
  const isHostShort = all.some(({ hostBytes }) => hostBytes > (limits.host ?? Number.POSITIVE_INFINITY));
  if (excess !== null && isHostShort && mayOffload) {
    const some = (await trialsOf(limited, machine, limits)).at(-1) as Trial;
    if (some.excess === null) return { sequence, device: some.deviceBytes, host: some.hostBytes };
  }
  return { sequence, device, host };
}

const withHostOffload = ({ memory, ...config }: Config): Config => ({
  ...config,
  memory: { ...memory, activation_offload: "host" },
});

/** What was tried for the plan that needs least; the last is the plan's. */
async function trialsOf(asked: Config, machine: Machine | null, limits: Limits): Promise<readonly Trial[]> {
  const { config, settings } = withoutUnbuilt(asked);
  const { trials } = await planConfig(config, {
    effort: "schedule",
    leastOnly: true,
    ...(machine && { rates: ratesOf(machine) }),
    needs: (plan) => needsOf(countOf(plan, settings, machine !== null, limits)),
  });
  return trials;
}

/** What would make a forecast fit that does not. */
export function remedyFor(
  asked: Config,
  machine: Machine | null,
  { planned, limits }: Forecast,
): Promise<string> {
  const needs = { ...(planned.trials.at(-1) as Trial), limits };
  const plan = async (own: Config): Promise<Tried> => {
    const ownLimits = limitsOf(own, machine);
    const trials = await trialsOf(withLimits(own, machine, ownLimits), machine, ownLimits);
    return { ...(trials.at(-1) as Trial), limits: ownLimits };
  };
  return adviceFor(asked, needs, plan, machine !== null);
}
