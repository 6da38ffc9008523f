/** @file Chooses how a step's memory is held: tries policies on the plan until one fits the limits. */
import { cpuTarget } from "./codegen/cpu/target.ts";
import { cudaTarget } from "./codegen/cuda/target.ts";
import type { Config } from "./config/load.ts";
import { customized } from "./extend/pipeline.ts";
import { modelFlops } from "./ir/flops.ts";
import type { Graph } from "./ir/graph.ts";
import type { Plan } from "./ir/plan.ts";
import { findRaces } from "./ir/race.ts";
import type { Mesh } from "./ir/type.ts";
import { printBytes } from "./ir/units.ts";
import type { Rates } from "./passes/keep.ts";
import { offloadableBytes } from "./passes/offload.ts";
import { type PipelineEntry, trainingPipeline } from "./passes/pipeline.ts";
import { planMemory } from "./passes/plan-memory.ts";
import { runPipeline, type Stage } from "./passes/run.ts";
import { schedule, type Target } from "./passes/schedule.ts";
import { spillableBytes } from "./passes/spill.ts";
import { layerCount, type Policy, policiesOf, policyInGroups, sparser, trainingOptions } from "./policies.ts";

/** Bytes of each memory. */
export type Needs = Pick<Plan, "deviceBytes" | "hostBytes" | "fileBytes">;

/** A policy that was tried to fit the limits, and what its plan needs. */
export interface Trial extends Policy, Needs {
  /** What is wrong where the plan needs more memory than a rank may have; null where it fits. */
  readonly excess: string | null;
}

export interface PlanningOptions {
  /** Stop behind this pass: there is no plan then. */
  readonly stopAfter?: string;
  /**
   * How far: "verify" checks the graph after each pass and the plan for races, as a program must be; "place" leaves that
   * out; "schedule" leaves all buffers at offset 0 too.
   */
  readonly effort?: "verify" | "place" | "schedule";
  /** The machine as the planner sees it; that of the configuration unless given. */
  readonly target?: (mesh: Mesh) => Target;
  /** How fast one rank is, by which policies are put in order. */
  readonly rates?: Rates;
  /** What a plan is taken to need where that is more, or less, than its arenas. */
  readonly needs?: (plan: Plan) => Needs;
  /** Only the policy that needs least is tried: whether anything fits, not what is best. */
  readonly leastOnly?: boolean;
}

export interface Choice {
  readonly stages: readonly Stage[];
  /** The passes that made the stages behind the first, in order. */
  readonly entries: readonly PipelineEntry[];
  /** Null when the road was left early. */
  readonly plan: Plan | null;
  /** What was tried; the last is the plan's. */
  readonly trials: readonly Trial[];
  /** The policies that could have been tried, the fastest first. */
  readonly policies: readonly Policy[];
}

/**
 * Ranks that `ithaca` knows nothing more of: a CPU's by what one thread of a Zen 4 server does in products and in copying
 * memory (measured); a GPU's by an H100's data sheet, of which products reach seven tenths. Only ratios matter here.
 */
export function ratesOf({ target, threads }: Pick<Config, "target" | "threads">): Rates {
  return target === "cuda"
    ? {
        flops: { f32: 45e12, bf16: 700e12 },
        bandwidth: 2.8e12,
        hostLink: 50e9,
        fileLink: 3e9,
        rankLink: 320e9,
      }
    : {
        flops: { f32: threads * 85e9, bf16: threads * 180e9 },
        bandwidth: 12e9,
        hostLink: 12e9,
        fileLink: 1e9,
        rankLink: 7e9,
      };
}

/** Steps, buffers and offsets for a graph. A plan with a race is our fault and does not compile. */
export function planOf(graph: Graph, target: Target, verify = true): Plan {
  const plan = planMemory(schedule(graph, target));
  const [race] = verify ? findRaces(plan) : [];
  if (race) throw new Error(`the plan has a race: ${race.message}`);
  return plan;
}

type Attempt = Pick<Choice, "stages" | "entries" | "plan"> & { readonly trial: Trial | null };

/** Runs the passes and plans. Where the compiler decides, the fastest policy that fits the limits is taken. */
export function choose(graph: Graph, config: Config, options: PlanningOptions): Choice {
  const rates = options.rates ?? ratesOf(config);
  const policies = policiesOf(graph, config, rates);
  const trials: Trial[] = [];
  const known = new Map<Policy, Attempt>();
  const attempt = (policy: Policy): Attempt => {
    const own = known.get(policy) ?? attemptOf(graph, config, options, policy);
    if (known.has(policy)) return own;
    known.set(policy, own);
    if (own.trial) trials.push(own.trial);
    return own;
  };
  const result = ({ stages, entries, plan, trial }: Attempt): Choice => ({
    stages,
    entries,
    plan,
    trials: trial ? [...trials.filter((own) => own !== trial), trial] : trials,
    policies,
  });
  if (options.stopAfter !== undefined) return result(attempt(policies[0]));
  const found = best(policies, graph, config, { ...options, rates }, attempt);
  if (fits(found)) return result(found);
  const inGroups = policyInGroups(graph, config, policies, rates);
  const other = inGroups && best([inGroups], graph, config, { ...options, rates }, attempt);
  return result(other && missingOf(other, config) < missingOf(found, config) ? other : found);
}

/** The fastest of `policies` that fits, with the help of host memory and of the file; where none does, what is nearest to it. */
function best(
  policies: readonly Policy[],
  graph: Graph,
  config: Config,
  { rates, leastOnly }: PlanningOptions & { readonly rates: Rates },
  attempt: (policy: Policy) => Attempt,
): Attempt {
  const layers = layerCount(graph);
  const [first, last] = [policies[0], policies[policies.length - 1]];
  const finish = (found: Attempt) => {
    const own = sendAway(found, config, attempt);
    return fits(own) ? own : withFewer(last, own, layers, config, attempt);
  };
  if (leastOnly || policies.length === 1) return finish(attempt(last));
  if (fits(attempt(first))) return attempt(first);
  const least = attempt(last);
  const found = fits(least) ? firstFit(policies, least, attempt) : least;
  const seconds =
    modelFlops(graph) / ranksOf(graph.mesh) / rates.flops[config.precision === "bf16" ? "bf16" : "f32"];
  const { activation_offload: offload, host_limit: host, host_spill: spill } = config.memory;
  const inFile = (bytes: number) =>
    spill === null || host === null ? 0 : (2 * Math.max(0, bytes - host)) / rates.fileLink;
  const exposed = (bytes: number) =>
    Math.max(0, (2 * bytes) / rates.hostLink - seconds, inFile(bytes) - seconds);
  const further = offload === "host" && spill !== null ? withFile : withHost;
  return finish(further(policies, found, config, attempt, exposed));
}

const ranksOf = (mesh: Mesh): number => [...mesh.values()].reduce((total, degree) => total * degree, 1);

const fits = ({ trial }: Attempt): boolean => trial === null || trial.excess === null;

const over = (needed: number, limit: number | null): number => Math.max(0, needed - (limit ?? needed));

/** Bytes by which an attempt exceeds the limits. */
function missingOf({ trial }: Attempt, { memory }: Config): number {
  if (!trial) return 0;
  return over(trial.deviceBytes, memory.device_limit) + over(trial.hostBytes, memory.host_limit);
}

function attemptOf(graph: Graph, config: Config, options: PlanningOptions, policy: Policy): Attempt {
  const { stopAfter, effort = "verify", needs = (plan) => plan } = options;
  const verify = effort === "verify";
  const own = config.target === "cuda" ? cudaTarget(graph.mesh) : cpuTarget(graph.mesh, config.threads);
  const target = options.target?.(graph.mesh) ?? own;
  const all = customized(trainingPipeline({ ...trainingOptions(config), ...policy }), config.passes);
  const stages = runPipeline(graph, all, { verify, ...(stopAfter !== undefined && { stopAfter }) });
  const entries = all.slice(0, stages.length - 1);
  if (stopAfter !== undefined) return { stages, entries, plan: null, trial: null };
  const last = stages[stages.length - 1].graph;
  const plan = effort === "schedule" ? schedule(last, target) : planOf(last, target, verify);
  const { deviceBytes, hostBytes, fileBytes } = needs(plan);
  const excess = excessOf({ deviceBytes, hostBytes, fileBytes }, config);
  return { stages, entries, plan, trial: { ...policy, deviceBytes, hostBytes, fileBytes, excess } };
}

/** The first of `policies` that fits, where the last, `least`, does: the further down the list, the less is needed. */
function firstFit(
  policies: readonly Policy[],
  least: Attempt,
  attempt: (policy: Policy) => Attempt,
): Attempt {
  let best = least;
  let [low, high] = [1, policies.length - 1];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const own = attempt(policies[middle]);
    if (fits(own)) [best, high] = [own, middle];
    else low = middle + 1;
  }
  return best;
}

/** How often a faster policy is tried with the host's help before the one at hand is taken. */
const TRIES = 3;

/**
 * A faster policy than `found` that fits when what it keeps waits in host memory, if there is one: copies are free while
 * they take no longer than the step's products (`exposed` are the seconds that are left over).
 */
function withHost(
  policies: readonly Policy[],
  found: Attempt,
  config: Config,
  attempt: (policy: Policy) => Attempt,
  exposed: (bytes: number) => number,
): Attempt {
  const { trial } = found;
  const { activation_offload: offload, device_limit: limit } = config.memory;
  if (offload !== "auto" || limit === null || !trial) return found;
  // What the estimates leave out is as large for one policy as for another.
  const beside = trial.deviceBytes - trial.bytes;
  const faster = policies
    .filter(
      ({ checkpointing, bytes, movable }) => checkpointing !== "off" && beside + bytes - movable <= limit,
    )
    .map((policy) => ({
      policy,
      seconds: policy.seconds + exposed(Math.max(0, beside + policy.bytes - limit)),
    }))
    .filter(({ seconds }) => !fits(found) || seconds < trial.seconds)
    .sort((a, b) => a.seconds - b.seconds)
    .slice(0, TRIES);
  const least = { policy: policies[policies.length - 1] };
  const order = fits(found) ? faster : [...faster.filter(({ policy }) => policy !== least.policy), least];
  return firstSentAway(order, found, config, attempt);
}

/** The first policy that fits when what it keeps is sent away; `found` where none does but that, and else the last. */
function firstSentAway(
  order: readonly { readonly policy: Policy }[],
  found: Attempt,
  config: Config,
  attempt: (policy: Policy) => Attempt,
): Attempt {
  let last = found;
  for (const { policy } of order) {
    last = sendAway(attempt(policy), config, attempt);
    if (fits(last)) return last;
  }
  return fits(found) ? found : last;
}

/**
 * Where all checkpoints wait in host memory: the fastest policy that fits when what is too much there waits in the file, if one is
 * faster than `found`.
 */
function withFile(
  policies: readonly Policy[],
  found: Attempt,
  config: Config,
  attempt: (policy: Policy) => Attempt,
  exposed: (bytes: number) => number,
): Attempt {
  const { device_limit: device } = config.memory;
  const before = fits(found) && found.trial ? found.trial.seconds : Number.POSITIVE_INFINITY;
  const ways = [...policies.slice(0, TRIES), policies[policies.length - 1]]
    .map((policy) => ({ policy, own: attempt(policy) }))
    .filter(({ own }) => (own.trial?.deviceBytes ?? 0) <= (device ?? Number.POSITIVE_INFINITY))
    .map(({ policy, own }) => ({ policy, seconds: policy.seconds + exposed(own.trial?.hostBytes ?? 0) }))
    .filter(({ seconds }) => seconds < before)
    .sort((a, b) => a.seconds - b.seconds);
  return firstSentAway(ways, found, config, attempt);
}

/**
 * Where nothing else fits: `policy`, that which needs least, with fewer checkpoints. What they free is known, so those are
 * tried that may be enough, the cheapest first.
 */
function withFewer(
  policy: Policy,
  found: Attempt,
  layers: number,
  config: Config,
  attempt: (policy: Policy) => Attempt,
): Attempt {
  const { checkpoint_every: every, activation_offload: offload } = config.memory;
  const { device_limit: device } = config.memory;
  const { trial } = found;
  if (every !== "auto" || policy.checkpointing === "off" || !trial) return found;
  const bytes = bytesBefore("offload", attempt(policy).stages);
  // With everything away that can be, fewer checkpoints free nothing on the device, and larger groups take more of it.
  const isFull = (own: Attempt) =>
    over(own.trial?.deviceBytes ?? 0, device) > 0 &&
    (own.trial?.offloadLayers ?? 0) >= bytesBefore("offload", own.stages).length;
  if (bytes.length < 2 || isFull(found)) return found;
  const each = bytes.reduce((total, own) => total + own, 0) / bytes.length;
  // The inputs inside a group are on the device while it runs backward, and take of what is freed there.
  const freed = (size: number) => layers - Math.ceil(layers / size) - (offload === "off" ? size - 1 : 0);
  const missing = missingOf(found, config);
  let best = { own: found, missing };
  const sizes = groupSizes(layers).filter((size) => freed(size) * each >= missing);
  for (const size of sizes.slice(0, TRIES)) {
    const own = sendAway(attempt(sparser(policy, size, layers)), config, attempt);
    if (fits(own)) return own;
    const still = missingOf(own, config);
    if (still < best.missing) best = { own, missing: still };
    if (isFull(own)) break;
  }
  return best.own;
}

/** Sizes of groups, the smallest for each number of groups. */
function groupSizes(layers: number): number[] {
  const sizes = Array.from({ length: layers - 1 }, (_, i) => Math.ceil(layers / (layers - 1 - i)));
  return [...new Set(sizes)];
}

/** The attempt with as many layers' checkpoints in host memory, and on in the file, as it takes to fit, or as can go. */
function sendAway(start: Attempt, config: Config, attempt: (policy: Policy) => Attempt): Attempt {
  let own = start;
  // A copy's place may be taken by another value, so the plan has the last word.
  for (let next = sentFurther(own, config); next; next = sentFurther(own, config)) own = attempt(next);
  return own;
}

/** The policy of an attempt that does not fit, with more layers' checkpoints sent away; null where that can't help. */
function sentFurther(own: Attempt, config: Config): Policy | null {
  const { trial } = own;
  if (fits(own) || !trial) return null;
  const spillLayers = layersToSpill(own, config);
  if (spillLayers !== null) return { ...trial, spillLayers };
  const offloadLayers = layersToOffload(own, config);
  return offloadLayers === null ? null : { ...trial, offloadLayers };
}

/** How many layers must keep their checkpoints in host memory for the plan to fit the device; null where that can't help. */
function layersToOffload({ stages, trial }: Attempt, { memory }: Config): number | null {
  const { activation_offload: offload, device_limit: device, host_limit: host } = memory;
  if (offload !== "auto" || !trial || device === null) return null;
  const { offloadLayers: before, deviceBytes, hostBytes, checkpointing } = trial;
  if (checkpointing === "off" || hostBytes > (host ?? Number.POSITIVE_INFINITY)) return null;
  return layersFor(deviceBytes - device, before, bytesBefore("offload", stages));
}

/** How many layers' checkpoints must wait in the file for the plan to fit host memory; null where that can't help. */
function layersToSpill({ stages, trial }: Attempt, { memory }: Config): number | null {
  const { host_spill: spill, host_limit: host } = memory;
  if (spill === null || !trial || host === null || trial.checkpointing === "off") return null;
  const { spillLayers: before, hostBytes } = trial;
  return layersFor(hostBytes - host, before, bytesBefore("spill", stages));
}

/** Bytes, layer by layer, that a pass could send away from the graph that it was given; none where it is turned off. */
function bytesBefore(name: "offload" | "spill", stages: readonly Stage[]): number[] {
  const at = stages.findIndex(({ pass }) => pass === name);
  if (at < 1) return [];
  return (name === "offload" ? offloadableBytes : spillableBytes)(stages[at - 1].graph);
}

/** How many layers, of `bytes` each, must go for `missing` bytes to be free; null where no more than before can. */
function layersFor(missing: number, before: number, bytes: readonly number[]): number | null {
  let layers = before;
  for (let left = missing; left > 0 && layers < bytes.length; layers++) left -= bytes[layers];
  return layers > before ? layers : null;
}

/** What is wrong where the plan needs more memory than a rank may have; null where it fits. */
function excessOf(needs: Needs, { memory }: Config): string | null {
  const limits = [
    ["device", needs.deviceBytes, memory.device_limit],
    ["host", needs.hostBytes, memory.host_limit],
  ] as const;
  const missing = limits.flatMap(([kind, needed, limit]) =>
    limit === null || needed <= limit
      ? []
      : [
          `${printBytes(needed)} of ${kind} memory, ${printBytes(needed - limit)} more than memory.${kind}_limit (${printBytes(limit)})`,
        ],
  );
  return missing.length === 0 ? null : `a step needs ${missing.join(", and ")}`;
}
