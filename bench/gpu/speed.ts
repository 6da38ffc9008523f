/**
 * @file Times our step and PyTorch's on a GPU, one after the other, each alone on it, and finds the longest sequence that
 * either trains.
 */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../../src/codegen/toolchain.ts";
import { planConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { random } from "../../test/support/random.ts";
import type { Peer } from "../peer.ts";
import { median, type Prepared, prepareOurs, type Setting, startOurs, startTorch } from "../sides.ts";
import type { Budget } from "./clock.ts";
import { findGpu, type Gpu } from "./machine.ts";
import { isMeasured, type Longest, type Result, type Row } from "./report.ts";

export interface Shape {
  readonly name: string;
  /** A folder of examples/plan. */
  readonly from: string;
  /** Layers, where not all of them. */
  readonly layers?: number;
}

const small: Shape = { name: "Llama-3.2-1B", from: "llama-3.2-1b" };
const wide: Shape = { name: "4 layers of Llama-3.1-8B", from: "llama-3.1-8b", layers: 4 };

/** What is timed, the most telling first: the time may not do for all. */
export const shapes: readonly { readonly shape: Shape; readonly tokens: number }[] = [
  { shape: small, tokens: 32768 },
  { shape: small, tokens: 131072 },
  { shape: small, tokens: 4096 },
  { shape: wide, tokens: 32768 },
  { shape: wide, tokens: 131072 },
  { shape: small, tokens: 262144 },
];

/** PyTorch's ways to run a length; the fastest counts. Layers are recomputed where a step could not do without. */
export function torchWays(tokens: number): string[][] {
  if (tokens < 32768) return [[], ["--compile"]];
  return [["--checkpointing"], ["--checkpointing", "--compile"]];
}

/** What of the GPU our arena may take: the rest is CUDA's context and the libraries'. */
export const limitOf = ({ bytes, used }: Pick<Gpu, "bytes" | "used">): number =>
  Math.floor((bytes - used) * 0.99 - 1.5 * 2 ** 30);

/** Writes a shape's config.json and random tokens; the folder. */
export function writeShape(folder: string, { from, layers }: Shape, tokens = 1 << 20): string {
  const model = join(folder, from);
  mkdirSync(model, { recursive: true });
  const source = join(packageRoot, "examples/plan", from, "config.json");
  const config = JSON.parse(readFileSync(source, "utf8"));
  if (layers === undefined) cpSync(source, join(model, "config.json"));
  else writeFileSync(join(model, "config.json"), JSON.stringify({ ...config, num_hidden_layers: layers }));
  const next = random(1);
  const drawn = Uint32Array.from({ length: tokens }, () => Math.floor(next() * config.vocab_size));
  writeFileSync(join(model, "tokens.bin"), drawn);
  return model;
}

export function settingOf(model: string, python: string, sequence: number, limit: number): Setting {
  return {
    ...{ model, python, sequence, precision: "bf16", device: "cuda", random: true, clip: null },
    threads: availableParallelism(),
    set: [`memory.device_limit=${limit}`],
  };
}

/** FLOPs of a step of the model. */
async function modelFlopsOf({ model, sequence }: Setting): Promise<number> {
  const values = { model, data: join(model, "tokens.bin"), output_dir: model, sequence_length: sequence };
  const config = parseConfig(
    JSON.stringify({ ...values, learning_rate: 1e-4, max_steps: 1 }),
    join(model, "flops.yaml"),
  );
  return (await planConfig(config, { effort: "place" })).modelFlops;
}

/** Steps a peer alone on the GPU. What it can't is an answer too; `how` is put down with the numbers. */
export async function timeAlone(
  start: () => Promise<Peer>,
  budget: Budget,
  {
    steps,
    warmup,
    how,
    plannedBytes,
  }: { steps: number; warmup: number; how: string; plannedBytes: number | null },
): Promise<Result> {
  const before = (await findGpu())?.used ?? 0;
  let peer: Peer | undefined;
  const measure = async (): Promise<Result> => {
    peer = await start();
    for (let i = 0; i < warmup; i++) await peer.step();
    const answers = [];
    for (let i = 0; i < steps; i++) answers.push(await peer.step());
    // Arenas and PyTorch's cache stay as large as they ever were.
    const usedBytes = ((await findGpu())?.used ?? 0) - before;
    await peer.quit();
    const seconds = median(answers.map((answer) => answer.seconds));
    return { seconds, loss: answers[0].loss, usedBytes, plannedBytes, how };
  };
  try {
    return await budget.within(120, measure(), () => peer?.kill());
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (/out of memory|OutOfMemory/i.test(message)) return { why: "out of memory" };
    return { why: message.trim().split("\n").at(-1) ?? "failed" };
  } finally {
    peer?.kill();
  }
}

/** The fastest of what was measured; the first reason where nothing was. */
export function fastest(results: readonly Result[]): Result {
  const measured = results.filter(isMeasured).sort((a, b) => a.seconds - b.seconds);
  return measured[0] ?? results[0] ?? { why: "not run" };
}

/** One row: our program, then PyTorch in each of its ways while there is time. */
export async function timeRow(
  { shape, tokens }: (typeof shapes)[number],
  setting: Setting,
  ours: Prepared | { readonly why: string },
  budget: Budget,
): Promise<Row> {
  const modelFlops = await modelFlopsOf(setting);
  const few = tokens > 131072;
  const counts = { steps: few ? 1 : 3, warmup: few ? 1 : 2 };
  const late: Result = { why: "not run: no time was left" };
  const own: Result =
    "why" in ours
      ? ours
      : budget.left() < 20
        ? late
        : await timeAlone(() => startOurs(setting, ours), budget, {
            ...counts,
            how: "",
            plannedBytes: ours.deviceBytes,
          });
  const ways: Result[] = [];
  for (const options of torchWays(tokens)) {
    if (budget.left() < 20) {
      ways.push(late);
      break;
    }
    const how = options.map((option) => option.slice(2)).join(", ");
    const run = () => startTorch(setting, options);
    const result = await timeAlone(run, budget, { ...counts, how, plannedBytes: null });
    ways.push(result);
    if (!isMeasured(result) && result.why === "out of memory") break;
  }
  return { shape: shape.name, tokens, modelFlops, ours: own, torch: fastest(ways) };
}

/** Doubles the length while a step trains, then halves what is between, down to an eighth. */
export async function longest(
  side: Longest["side"],
  start: number,
  trains: (tokens: number) => Promise<Result>,
): Promise<Longest> {
  let [good, bad] = [0, Number.POSITIVE_INFINITY];
  let next = start;
  let detail = "";
  while (bad - good > good / 8) {
    const result = await trains(next);
    if (isMeasured(result)) good = next;
    else {
      bad = next;
      detail = `${next.toLocaleString("en")}: ${result.why}`;
      if (good === 0 || result.why !== "out of memory") break;
    }
    next = bad === Number.POSITIVE_INFINITY ? 2 * good : (good + bad) / 2;
  }
  return { side, trained: good === 0 ? null : good, detail };
}

/** Programs of all rows, or why there is none. */
export function prepareAll(settings: readonly Setting[]): Promise<(Prepared | { readonly why: string })[]> {
  return Promise.all(
    settings.map((setting) =>
      prepareOurs(setting).catch((error: Error) => ({ why: error.message.split("\n", 1)[0] })),
    ),
  );
}
