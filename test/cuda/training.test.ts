/** @file Whole training runs of the CUDA target on a simulated device: the CPU's numbers, in every order of the streams. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, describe, expect, test, vi } from "vitest";
import { buildProgram } from "../../src/codegen/build.ts";
import { type Compiled, compileConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { prepareData } from "../../src/data/prepare.ts";
import { lanes, type Plan } from "../../src/ir/plan.ts";
import { runBinary } from "../../src/launch/run-binary.ts";
import { runFile, vocabularySize } from "../../src/launch/run-file.ts";
import { readSafetensors } from "../end-to-end/safetensors.ts";
import { smallModel } from "../support/one-step.ts";
import { simulatedCuda } from "../support/simulated-cuda.ts";

const goldens = fileURLToPath(new URL("../golden/", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "ithaca-simulated-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
afterEach(() => vi.unstubAllEnvs());

type Settings = Readonly<Record<string, unknown>>;

interface Run {
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  readonly final: ReadonlyMap<string, Float32Array>;
}

let runs = 0;

/** Builds what `settings` describe for a target, ready to be run. `host_limit` may be less than a configuration can say. */
async function prepare(target: "cpu" | "cuda", { host_limit, ...settings }: Settings) {
  const output = join(scratch, `run-${runs++}`);
  mkdirSync(output);
  const values = {
    model: join(goldens, "llama/model"),
    data: join(goldens, "tokens.bin"),
    output_dir: output,
    sequence_length: 48,
    max_steps: 3,
    learning_rate: 1e-3,
    adam_epsilon: 1e-5,
    target,
    threads: 1,
    ...settings,
  };
  const parsed = parseConfig(JSON.stringify(values), join(output, "config.yaml"));
  const limit = (host_limit as number | undefined) ?? null;
  const config = { ...parsed, memory: { ...parsed.memory, host_limit: limit } };
  const compiled = await compileConfig(config);
  const build = join(output, "build");
  const { train } = await buildProgram(compiled.sources, build, target === "cuda" ? simulatedCuda : "cpu");
  const data = await prepareData(config, vocabularySize(compiled.model));
  const file = join(build, "run.json");
  writeFileSync(file, JSON.stringify(await runFile(config, compiled.model, data, build)));
  const ranks = config.parallel.sequence * config.parallel.data;
  const start = { by: "itself", ranks } as const;
  return {
    compiled,
    async run(): Promise<Run> {
      const lines = new PassThrough().resume();
      const { exitCode } = await runBinary(train, file, config, { lines, start });
      expect(exitCode).toBe(0);
      const metrics = readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n");
      const steps = metrics.map((line) => JSON.parse(line) as { loss: number; grad_norm: number });
      return {
        losses: steps.map(({ loss }) => loss),
        norms: steps.map(({ grad_norm }) => grad_norm),
        final: readSafetensors(resolve(output, "final/model.safetensors")),
      };
    },
  };
}

function expectClose(own: readonly number[], expected: readonly number[], distance: number): void {
  expect(own.length).toBe(expected.length);
  own.forEach((value, i) => {
    expect(Math.abs(value / expected[i] - 1), `step ${i + 1}`).toBeLessThan(distance);
  });
}

const tokens = join(goldens, "tokens.bin");
/** Of six layers' inputs, 4,608 bytes each, host memory has room for three. */
const spilled = {
  model: smallModel({ num_hidden_layers: 6, vocab_size: 1003 }),
  memory: { activation_checkpointing: "layer", activation_offload: "host", host_spill: scratch },
  host_limit: 3 * 4608,
};
const everything = {
  parallel: { sequence: 2 },
  gradient_accumulation_steps: 2,
  memory: { tiled_loss: 3, activation_checkpointing: "layer", activation_offload: "host" },
};

describe("on a simulated device", () => {
  test.each([
    ["fp32", { precision: "fp32" }, 1e-5],
    ["bf16", { precision: "bf16" }, 1e-3],
    ["a sequence shared by two ranks", { parallel: { sequence: 2 } }, 1e-5],
    ["samples of two replicas, each shared by two ranks", { parallel: { sequence: 2, data: 2 } }, 1e-5],
    ["tiles, recomputed layers and offload on a shared sequence", everything, 1e-5],
    ["checkpoints in a file", spilled, 1e-5],
    ["bf16 with all of these", { ...everything, precision: "bf16" }, 1e-3],
  ] as [string, Settings, number][])("%s: the CPU's losses and norms", async (_, settings, distance) => {
    const ours = await (await prepare("cuda", { data: tokens, ...settings })).run();
    const expected = await (await prepare("cpu", { data: tokens, ...settings })).run();
    expectClose(ours.losses, expected.losses, distance);
    expectClose(ours.norms, expected.norms, 10 * distance);
  });

  test.each([
    ["with all of these", everything],
    ["with checkpoints in a file", spilled],
  ] as [string, Settings][])(
    "%s, whatever order the streams run in, the bits are the same",
    async (_, settings) => {
      const program = await prepare("cuda", settings);
      const { plan } = program.compiled;
      expect(plan?.steps.some(({ lane }) => lane === "from_file")).toBe(settings === spilled);
      vi.stubEnv("ITHACA_SIMULATED_ORDER", "issued");
      const expected = await program.run();
      for (const seed of [1, 2, 3, 4, 5]) {
        vi.stubEnv("ITHACA_SIMULATED_ORDER", String(seed));
        expect(await program.run()).toEqual(expected);
      }
    },
  );

  test.each([
    ["of recomputed layers", { memory: { activation_checkpointing: "layer" } }],
    ["with checkpoints in a file", spilled],
  ] as [string, Settings][])("a replayed graph %s gives the bits of issued steps", async (_, settings) => {
    const program = await prepare("cuda", settings);
    vi.stubEnv("ITHACA_CUDA_GRAPH", "0");
    const issued = await program.run();
    vi.stubEnv("ITHACA_CUDA_GRAPH", "1");
    expect(await program.run()).toEqual(issued);
  });
});

/** What the host must issue for one run of the plan: each step with its lane, what it waits for and what it signals. */
function expectedCalls({ steps, loops }: Plan): { lane: number; waits: number[]; signals: number[] }[] {
  const awaited = [...new Set(steps.flatMap(({ waits }) => waits))].sort((a, b) => a - b);
  const event = new Map(awaited.map((step, i) => [step, i]));
  const calls: { lane: number; waits: number[]; signals: number[] }[] = [];
  const walk = (from: number, to: number, depth: number): void => {
    for (let at = from; at < to; ) {
      const step = steps[at];
      const loop = step.loops[depth];
      if (loop === undefined) {
        const signal = event.get(at);
        calls.push({
          lane: lanes.indexOf(step.lane),
          waits: step.waits.map((before) => event.get(before) as number),
          signals: signal === undefined ? [] : [signal],
        });
        at++;
        continue;
      }
      const { first, last, times } = loops[loop];
      for (let turn = 0; turn < times; turn++) walk(first, last + 1, depth + 1);
      at = last + 1;
    }
  };
  walk(0, steps.length, 0);
  return calls;
}

test("streams, waits and signals are the plan's, call for call", async () => {
  const log = join(scratch, "calls.log");
  const settings = { ...everything, parallel: { sequence: 1 }, max_steps: 1 };
  const { compiled, run } = await prepare("cuda", settings);
  vi.stubEnv("ITHACA_SIMULATED_LOG", log);
  await run();
  const { plan } = compiled as Compiled & { plan: Plan };
  const events = new Set(plan.steps.flatMap(({ waits }) => waits)).size;
  const issued = readFileSync(log, "utf8")
    .trim()
    .split("\n")
    .map((line) => line.split(" ") as [string, "run" | "wait" | "record", string])
    // Behind the plan's own events are those that join the streams at the end.
    .filter(([, kind, what]) => kind === "run" || Number(what) < events);
  let at = 0;
  for (const { lane, waits, signals } of expectedCalls(plan)) {
    const next = (kind: string) => issued[at]?.[1] === kind;
    const taken = (kind: string) => {
      const all: number[] = [];
      for (; next(kind) && all.length < (kind === "wait" ? waits : signals).length; at++) {
        expect(Number(issued[at][0])).toBe(lane);
        all.push(Number(issued[at][2]));
      }
      return all;
    };
    expect(taken("wait")).toEqual(waits);
    while (next("run") && Number(issued[at][0]) === lane) at++;
    expect(taken("record")).toEqual(signals);
  }
  expect(at).toBe(issued.length);
  expect(events).toBeGreaterThan(0);
});
