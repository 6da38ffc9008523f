/**
 * @file What would make a step fit that needs more memory than there is: each setting that could help is tried on the plan,
 * and only what does is said.
 */
import type { Needs } from "./choose.ts";
import type { Config } from "./config/load.ts";
import { UserError } from "./ir/error.ts";
import { printBytes } from "./ir/units.ts";

/** One setting to change. */
interface Way {
  /** Completes "Shorten sequence_length, or ...". */
  readonly text: string;
  readonly change: (config: Config) => Config;
}

type Memory = Config["memory"];

const set = <Key extends keyof Memory>(key: Key, value: Memory[Key], text = `${value}`): Way => ({
  text: `set memory.${key}${key === "host_spill" ? "" : ":"} ${text}`,
  change: (config) => ({ ...config, memory: { ...config.memory, [key]: value } }),
});

const isWhole = (tiles: Memory["tiled_mlp"]): boolean => tiles === "off" || tiles === 1;

const UNBUILT = "which no pass does yet";

/** The settings that may need less, those first that change no number. */
function waysFor({ memory, parallel, ...config }: Config, missing: Missing, isPlanning: boolean): Way[] {
  const { activation_checkpointing: checkpointing, activation_offload: offload } = memory;
  const keeps = checkpointing !== "off";
  const tiles = ["tiled_loss", "tiled_mlp", "tiled_projections"] as const;
  return [
    ...(keeps && checkpointing !== "attention" ? [] : [set("activation_checkpointing", "layer")]),
    ...tiles.filter((key) => isWhole(memory[key])).map((key) => set(key, "auto")),
    ...(isWhole(memory.head_groups) && checkpointing !== "attention" ? [set("head_groups", "auto")] : []),
    ...(memory.checkpoint_every !== "auto" && keeps ? [set("checkpoint_every", "auto")] : []),
    ...(offload === "off" && keeps ? [set("activation_offload", "auto")] : []),
    ...(memory.optimizer_offload === "off" && missing.device > 0 ? [set("optimizer_offload", "host")] : []),
    ...(memory.optimizer_offload === "host" && missing.host > 0 ? [set("optimizer_offload", "off")] : []),
    ...(memory.host_spill === null && missing.host > 0 && keeps && offload !== "off"
      ? [set("host_spill", ".", "to a folder on a fast disk")]
      : []),
    ...(isPlanning && memory.parameter_offload === "off" && missing.device > 0
      ? [set("parameter_offload", "host", `host, ${UNBUILT}`)]
      : []),
    ...(isPlanning && parallel.zero_stage < 3 && parallel.sequence * parallel.data > 1
      ? [
          {
            text: `set parallel.zero_stage: 3, ${UNBUILT}`,
            change: (own: Config) => ({ ...own, parallel: { ...own.parallel, zero_stage: 3 } }),
          },
        ]
      : []),
    ...(config.micro_batch_size > 1
      ? [{ text: "set micro_batch_size: 1", change: (own: Config) => ({ ...own, micro_batch_size: 1 }) }]
      : []),
    ...(config.precision === "fp32"
      ? [{ text: "use precision: bf16", change: (own: Config): Config => ({ ...own, precision: "bf16" }) }]
      : []),
    {
      text: `share the sequence between more ranks (parallel.sequence: ${2 * parallel.sequence})`,
      change: (own) => ({ ...own, parallel: { ...own.parallel, sequence: 2 * own.parallel.sequence } }),
    },
  ];
}

interface Missing {
  readonly device: number;
  readonly host: number;
}

function missingOf({ deviceBytes, hostBytes, limits }: Tried): Missing {
  const over = (bytes: number, limit: number | null) => Math.max(0, bytes - (limit ?? bytes));
  return { device: over(deviceBytes, limits.device), host: over(hostBytes, limits.host) };
}

const totalOf = ({ device, host }: Missing): number => device + host;

/** What a configuration needs of a rank's memory, and may take. */
export interface Tried extends Needs {
  readonly limits: { readonly device: number | null; readonly host: number | null };
}

/** Tokens of a rank that are as good as none. */
const FEW = 16;

/**
 * The remedy for a configuration that needs `needs`: what is enough alone, else all that helps together. `plan` says what
 * another configuration needs where the compiler takes of what it may the way that needs least. `isPlanning`: settings may be
 * advised that only a plan knows.
 */
export async function adviceFor(
  config: Config,
  needs: Tried,
  plan: (config: Config) => Promise<Tried>,
  isPlanning = false,
): Promise<string> {
  const missing = missingOf(needs);
  const tried = async (own: Config): Promise<{ readonly size: string; readonly left: number }> => {
    try {
      const found = await plan(own);
      return { size: sizeOf(found, missing), left: totalOf(missingOf(found)) };
    } catch (error) {
      // Settings may exclude each other.
      if (error instanceof UserError) return { size: "", left: Number.POSITIVE_INFINITY };
      throw error;
    }
  };
  const helpful: { text: string; change: Way["change"]; size: string; left: number }[] = [];
  for (const way of waysFor(config, missing, isPlanning)) {
    const found = await tried(way.change(config));
    if (found.left < totalOf(missing)) helpful.push({ ...way, ...found });
  }
  const enough = helpful.filter(({ left }) => left === 0);
  const all = await tried(helpful.reduce((own, { change }) => change(own), config));
  const texts = helpful.map(({ text }) => text).join(", ");
  const few = { ...config, sequence_length: FEW * config.parallel.sequence };
  const { left: leftOfFew } = await tried(few);
  const ways = [
    ...(leftOfFew === 0 ? ["shorten sequence_length (ithaca plan --max-sequence finds the longest)"] : []),
    ...enough.map(({ text, size }) => `${text} (${size})`),
    ...(enough.length === 0 && helpful.length > 0 && all.left === 0
      ? [`${texts}, all together (${all.size})`]
      : []),
    ...(missing.host > 0 && missing.device === 0
      ? [`raise memory.host_limit to ${printBytes(needs.hostBytes)}`]
      : []),
    ...(missing.device > 0 && leftOfFew > 0 ? ["raise memory.device_limit"] : []),
  ];
  const text = `${ways.join(", or ")}.`;
  const still = helpful.length > 0 && all.left > 0 ? ` Even with this, it needs ${all.size}: ${texts}.` : "";
  return `${text[0].toUpperCase()}${text.slice(1)}${still}`;
}

/** Of the memories of which there is too little. */
function sizeOf({ deviceBytes, hostBytes }: Needs, { device, host }: Missing): string {
  return [
    ...(device > 0 ? [`${printBytes(deviceBytes)} of device memory`] : []),
    ...(host > 0 ? [`${printBytes(hostBytes)} of host memory`] : []),
  ].join(" and ");
}
