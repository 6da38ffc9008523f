/**
 * @file The longest sequences by the plan, beside those that others have published: makes docs/memory.md. No GPU is needed.
 *
 *     npx tsx bench/max-sequence.ts [--only TEXT]     searches every row (or those whose name has TEXT) and prints it
 *     npx tsx bench/max-sequence.ts --write           also writes bench/results/max-sequence.json and docs/memory.md
 *     npx tsx bench/max-sequence.ts --page            writes docs/memory.md from what is stored
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadConfig } from "../src/config/load.ts";
import { forecast, limitsOf, probe } from "../src/forecast.ts";
import { printBytes, printSeconds } from "../src/ir/units.ts";
import { type Allowance, allowancesFor, hostAllowance, machineOf, machines } from "../src/plan/machines.ts";
import { assumptionsOf } from "../src/plan/projection.ts";
import { longestSequence } from "../src/plan/search.ts";

/** One row to search. */
export interface Row {
  readonly table: "ablation" | "scale";
  readonly name: string;
  readonly model: string;
  readonly machine: string;
  readonly gpus: number;
  readonly settings: readonly string[];
  /** The longest of ALST's shipped recipes or tables (arXiv:2506.13996), in tokens; null where none is published. */
  readonly published: number | null;
}

/** What was found. */
export interface Result extends Row {
  readonly tokens: number;
  /** The input of one layer in so many is kept. */
  readonly checkpoint_every: number;
  readonly limited_by: string;
  readonly device_peak_bytes: number;
  readonly host_peak_bytes: number;
  readonly step_time_s: number;
  readonly model_tflops_per_gpu: number;
  readonly by_formula: readonly string[];
}

const heads: Readonly<Record<string, { q: number; kv: number }>> = {
  "llama-3.1-8b": { q: 32, kv: 8 },
  "llama-3.1-70b": { q: 64, kv: 8 },
  "qwen3-32b": { q: 64, kv: 8 },
};

/** Everything that saves memory off, but for what the paper's baseline has: ZeRO-3, recomputed layers, the optimizer's moments on the host. */
const baseline = (sequence: number, data: number): string[] => [
  "precision=bf16",
  `parallel.sequence=${sequence}`,
  `parallel.data=${data}`,
  `parallel.zero_stage=${sequence * data > 1 ? 3 : 0}`,
  "memory.optimizer_offload=host",
  "memory.activation_checkpointing=layer",
  "memory.checkpoint_every=1",
  "memory.activation_offload=off",
  "memory.tiled_loss=off",
  "memory.tiled_mlp=off",
  "memory.tiled_projections=off",
  "memory.head_groups=off",
];
const tiledLoss = "memory.tiled_loss=auto";
const tiledMlp = "memory.tiled_mlp=64";
const offload = "memory.activation_offload=host";
const fewerCheckpoints = "memory.checkpoint_every=auto";
const parameterOffload = "memory.parameter_offload=host";

/** Tiles of all that works token by token, and attention in as many groups of heads as leave each rank whole ones. */
function beyond(model: string, gpus: number): string[] {
  const { q, kv } = heads[model];
  const groups = [8, 4, 2, 1].find((own) => kv % own === 0 && (q / own) % gpus === 0) ?? 1;
  return ["memory.tiled_projections=64", ...(groups > 1 ? [`memory.head_groups=${groups}`] : [])];
}

function ablation(): Row[] {
  const model = "llama-3.1-8b";
  const row = (name: string, settings: readonly string[], published: number | null): Row => ({
    table: "ablation",
    name,
    model,
    machine: "h100-80gb",
    gpus: 8,
    settings,
    published,
  });
  const alone = baseline(1, 8);
  const shared = [...baseline(8, 1), tiledLoss];
  return [
    row("baseline", alone, 32e3),
    row("+ tiled loss", [...alone, tiledLoss], 160e3),
    row("+ Ulysses", shared, 1.1e6),
    row("+ tiled MLP", [...shared, tiledMlp], 1.2e6),
    row("+ offload, without tiled MLP", [...shared, offload], 2.4e6),
    row("all of these", [...shared, offload, tiledMlp], 3.7e6),
    row("+ tiled projections, head groups", [...shared, offload, tiledMlp, ...beyond(model, 8)], null),
  ];
}

function scale(): Row[] {
  const rows: readonly [model: string, machine: string, gpus: number, published: number | null][] = [
    ["llama-3.1-8b", "h100-80gb", 1, 500e3],
    ["llama-3.1-8b", "h100-80gb", 8, 3.7e6],
    ["llama-3.1-8b", "h100-80gb", 32, 15e6],
    ["llama-3.1-8b", "h200", 1, 1.2e6],
    ["llama-3.1-70b", "h100-80gb", 8, 200e3],
    ["llama-3.1-70b", "h100-80gb", 16, 1.2e6],
    ["llama-3.1-70b", "h100-80gb", 32, 4e6],
    ["llama-3.1-70b", "h100-80gb", 64, 10e6],
    ["qwen3-32b", "h100-80gb", 1, 230e3],
    ["qwen3-32b", "h100-80gb", 8, 1.55e6],
    ["qwen3-32b", "h100-80gb", 32, 7e6],
    ["qwen3-32b", "h100-80gb", 64, 15e6],
  ];
  return rows.map(([model, machine, gpus, published]) => ({
    table: "scale",
    name: `${model} on ${gpus} x ${machine}`,
    model,
    machine,
    gpus,
    settings: [
      ...baseline(gpus, 1),
      ...[tiledLoss, tiledMlp, offload, fewerCheckpoints, parameterOffload],
      ...["memory.tiled_projections=auto", "memory.head_groups=auto"],
    ],
    published,
  }));
}

export const rows: readonly Row[] = [...ablation(), ...scale()];

const example = (path: string): string => fileURLToPath(new URL(`../examples/plan/${path}`, import.meta.url));

/** The configuration of a row: the example's, with the row's model and settings. */
export function configOf({ model, machine, settings }: Row) {
  const overrides = [`model=${example(model)}`, `machine=${machine}`, ...settings];
  return loadConfig(example("config.yaml"), overrides, { planning: true });
}

export async function resultOf(row: Row): Promise<Result> {
  const machine = machineOf(row.machine);
  if (!machine) throw new Error(`there is no machine ${row.machine}`);
  const config = configOf(row);
  const found = await longestSequence((sequence) => probe(config, machine, sequence), {
    limits: limitsOf(config, machine),
    multiple: 256 * config.parallel.sequence,
    start: row.published ?? 1e6,
  });
  const made = await forecast({ ...config, sequence_length: found.sequence }, machine);
  if (made.excess !== null) throw new Error(`${row.name}: ${made.excess}`);
  return {
    ...row,
    tokens: found.sequence,
    checkpoint_every: made.planned.trials.at(-1)?.checkpointEvery ?? 1,
    limited_by: found.limitedBy,
    device_peak_bytes: made.device.peakBytes,
    host_peak_bytes: made.host.peakBytes,
    step_time_s: made.stepSeconds,
    model_tflops_per_gpu: made.planned.modelFlops / made.stepSeconds / row.gpus / 1e12,
    by_formula: made.assumptions.map(({ setting }) => setting),
  };
}

/** 3,712,345 as "3.71M", 160,000 as "160K". */
function short(tokens: number): string {
  return tokens >= 1e6 ? `${(tokens / 1e6).toFixed(2)}M` : `${Math.round(tokens / 1e3)}K`;
}

function table(results: readonly Result[]): string {
  const isSparse = results.some((own) => own.checkpoint_every > 1);
  const lines = results.map((own) =>
    [
      own.name,
      `**${short(own.tokens)}**`,
      own.published === null ? "-" : short(own.published),
      ...(isSparse ? [own.checkpoint_every === 1 ? "1 layer" : `${own.checkpoint_every} layers`] : []),
      own.limited_by,
      printBytes(own.device_peak_bytes),
      printBytes(own.host_peak_bytes),
      printSeconds(own.step_time_s),
      own.model_tflops_per_gpu.toFixed(0),
    ].join(" | "),
  );
  const columns = ["planned tokens", "ALST", ...(isSparse ? ["checkpoint every"] : [])];
  const heads = [...columns, "limited by", "device", "host, a rank", "step", "TFLOP/s a GPU"];
  return [
    `| | ${heads.join(" | ")} |`,
    `|---|${heads.map(() => "---|").join("")}`,
    ...lines.map((line) => `| ${line} |`),
  ].join("\n");
}

const allowanceLines = (allowances: readonly Allowance[]): string =>
  allowances.map(({ what, bytes, source }) => `| ${what} | ${printBytes(bytes)} | ${source} |`).join("\n");

/** docs/memory.md for these results. */
export function page(results: readonly Result[]): string {
  const settings = {
    ranks: 8,
    zeroStage: 3,
    parameterOffload: true,
    weightBytes: 2,
    accumulates: false,
  } as const;
  const formulas = assumptionsOf(settings).filter(({ setting }) =>
    results.some(({ by_formula }) => by_formula.includes(setting)),
  );
  const collectives = [{ op: "all_to_all", axis: "sp" }];
  const machineLines = machines.map(
    ({ name, deviceBytes, hostBytes, gpusPerNode }) =>
      `| ${name} | ${printBytes(deviceBytes)} | ${(hostBytes / 1e12).toFixed(1)} TB | ${gpusPerNode} |`,
  );
  return `<!-- Made by \`npx tsx bench/max-sequence.ts --write\`. Don't edit. -->
# Memory: the longest sequences, planned

These lengths are **planned, not measured**: \`ithaca plan --max-sequence\` plans a whole training step and searches for the
longest sequence whose peaks fit a GPU and its share of a node's host memory. Nothing is left out of the count: weights, f32
master weights, gradients, both moments of AdamW, activations, workspaces of cuBLASLt and cuDNN as the compiler reserves
them, what is exchanged, and the allowances below. Each length is a multiple of 256 tokens a rank; half a percent more does
not fit. What a plan can't know is whether every library takes tensors of so many elements: that needs the machine. The column ALST is what Arctic Long Sequence Training has published as trained (arXiv:2506.13996, and the
\`max_length\` of its recipes). Step time is a roofline and TFLOP/s are of the model: causal, without recomputation. ALST's
own count is of the full square and of recomputation: 2.67 times this one for long sequences.

## What each part brings

Llama-3.1-8B on one node of eight H100-80GB. The first two rows train a sample on each GPU, the others share one.
As in the paper, every row has ZeRO-3, recomputed layers and the optimizer's moments on the host; here f32 weights and gradients,
a share of each, stay on the GPU.

${table(results.filter((own) => own.table === "ablation"))}

The baseline is longer than the paper's because its logits are bf16, with sums in f32, and their gradient lies where they lay. The last row computes attention's forward a third time, which its step time shows.

## Machines and models

With all of it, and weights and gradients in host memory too; where host memory would be the limit, the planner keeps the input of
every k-th layer only and computes those between again. One GPU may have its node's whole host memory, as the paper's did.

${table(results.filter((own) => own.table === "scale"))}

## Counted by formula

What no pass does yet is counted on the buffers of the real schedule:

${formulas.map(({ setting, says }) => `- \`${setting}\`: ${says}.`).join("\n")}

## Machines

| machine | a GPU | host memory of a node | GPUs |
|---|---|---|---|
${machineLines.join("\n")}

[src/plan/machines.ts](../src/plan/machines.ts) has the source of each number, and the rates of the roofline.

## Allowances

Beside what is planned, each GPU is charged for

| what | bytes | source |
|---|---|---|
${allowanceLines(allowancesFor(collectives))}

a communicator for each axis of the mesh that a program has collectives on, and each rank's host memory for

| what | bytes | source |
|---|---|---|
${allowanceLines([hostAllowance])}
`;
}

const store = fileURLToPath(new URL("results/max-sequence.json", import.meta.url));

/** What was found last, as written by --write. */
export function stored(): Result[] {
  return JSON.parse(readFileSync(store, "utf8")) as Result[];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: "string" },
      write: { type: "boolean", default: false },
      page: { type: "boolean", default: false },
    },
  });
  const { only, write } = values;
  const path = fileURLToPath(new URL("../docs/memory.md", import.meta.url));
  if (values.page) {
    writeFileSync(path, page(stored()));
    return;
  }
  const results: Result[] = [];
  for (const row of rows.filter(({ name }) => only === undefined || name.includes(only))) {
    const begin = performance.now();
    const result = await resultOf(row);
    results.push(result);
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    const beside = row.published === null ? "" : `, ALST ${short(row.published)}`;
    console.log(
      `${row.name}: ${short(result.tokens)}${beside}, limited by ${result.limited_by} (${seconds} s)`,
    );
  }
  if (!write) return;
  if (only !== undefined) throw new Error("--write needs all rows");
  writeFileSync(store, `${JSON.stringify(results, null, 2)}\n`);
  writeFileSync(path, page(results));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
