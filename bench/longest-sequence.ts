/**
 * @file How long a sequence trains in one step under one memory limit, one means after the other.
 *
 *     npx tsx bench/longest-sequence.ts [--limit 256MiB] [--precision fp32]
 *
 * For each row: the longest sequence whose plan fits (a multiple of 64 tokens), found by bisection; one step of that length, run,
 * with what the process had resident; and at the first row's length the distance of its loss and of every gradient from the
 * first row's. Prints a table in Markdown. Exits with 1 where a gradient is farther off than rounding.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { planConfig } from "../src/compile.ts";
import type { Config } from "../src/config/load.ts";
import { printBytes } from "../src/ir/units.ts";
import { distance, type OneStep, oneStep } from "../test/support/one-step.ts";
import { random } from "../test/support/random.ts";
import { configFrom, runOnce, writeModel, writeTokens } from "./run-once.ts";

const { values: args } = parseArgs({
  options: {
    limit: { type: "string", default: "256MiB" },
    precision: { type: "string", default: "fp32" },
  },
});

/** Tokens of a tile, where something is tiled. */
const TILE = 512;
/** Sequences are multiples of this many tokens. */
const GRAIN = 64;
/** Of a gradient, relative to its largest element: sums in another order, and in bf16 other roundings. */
const ROUNDING = args.precision === "bf16" ? 0.05 : 1e-4;

type Settings = Readonly<Record<string, string | number>>;

const NOTHING: Settings = {
  tiled_loss: "off",
  tiled_mlp: "off",
  tiled_projections: "off",
  head_groups: "off",
  activation_checkpointing: "off",
  activation_offload: "off",
};

/** Each row adds to those before it. */
const rows: readonly { readonly name: string; readonly adds: (tiles: number) => Settings }[] = [
  { name: "nothing", adds: () => ({}) },
  { name: "+ tiled loss", adds: (tiles) => ({ tiled_loss: tiles }) },
  { name: "+ tiled MLP and projections", adds: (tiles) => ({ tiled_mlp: tiles, tiled_projections: tiles }) },
  { name: "+ checkpointing of layers", adds: () => ({ activation_checkpointing: "layer" }) },
  { name: "+ offload", adds: () => ({ activation_offload: "host" }) },
  { name: "+ head groups", adds: () => ({ head_groups: 4 }) },
];

const folder = mkdtempSync(join(tmpdir(), "ithaca-longest-"));
function settingsOf(row: number, length: number) {
  const tiles = Math.ceil(length / TILE);
  const memory: Settings = Object.assign(
    {},
    NOTHING,
    ...rows.slice(0, row + 1).map(({ adds }) => adds(tiles)),
  );
  return {
    ...{ model: join(folder, "model"), data: join(folder, "tokens.bin"), precision: args.precision },
    ...{ sequence_length: length, threads: 2, memory },
  };
}

function configOf(row: number, length: number, output = "run"): Config {
  const values = { ...settingsOf(row, length), max_steps: 1, output_dir: join(folder, output) };
  const memory = { ...values.memory, device_limit: args.limit };
  return configFrom({ ...values, memory }, folder);
}

async function fits(row: number, length: number): Promise<boolean> {
  const { trials } = await planConfig(configOf(row, length), { effort: "place" });
  return trials.at(-1)?.excess === null;
}

/** The longest sequence of a row; `known` fits. */
async function longest(row: number, known: number): Promise<number> {
  let [low, high] = [known, 2 * known];
  while (await fits(row, high)) [low, high] = [high, 2 * high];
  while (high - low > GRAIN) {
    const middle = Math.floor((low + high) / 2 / GRAIN) * GRAIN;
    if (await fits(row, middle)) low = middle;
    else high = middle;
  }
  return low;
}

writeModel(join(folder, "model"), {
  ...{ hidden_size: 128, intermediate_size: 512, num_hidden_layers: 8, head_dim: 16, vocab_size: 8192 },
  ...{ num_attention_heads: 8, num_key_value_heads: 4 },
});
writeTokens(join(folder, "tokens.bin"), 300_000, 8192, random(1));

console.log(
  `| | tokens | device | host | resident | step | loss | off at the first row's length: loss | gradients |`,
);
console.log("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
let first: { readonly length: number; readonly step: OneStep } | null = null;
let length = GRAIN;
let isClose = true;
try {
  for (const [at, { name }] of rows.entries()) {
    length = await longest(at, length);
    const step = await oneStep(settingsOf(at, first?.length ?? length));
    first ??= { length, step };
    const apart = distance(step, first.step);
    isClose &&= apart.loss <= ROUNDING && apart.gradient <= ROUNDING;
    const { metrics } = await runOnce(configOf(at, length, `run-${at}`));
    const cells = [
      name,
      length.toLocaleString("en"),
      printBytes(metrics.device_peak_bytes),
      printBytes(metrics.host_peak_bytes),
      printBytes(metrics.process_peak_bytes),
      `${metrics.step_time_s.toFixed(1)} s`,
      metrics.loss.toFixed(4),
      apart.loss.toExponential(1),
      apart.gradient.toExponential(1),
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(isClose ? 0 : 1);
