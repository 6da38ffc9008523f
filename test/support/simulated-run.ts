/** @file Short training runs of the small Llama of test/golden, on the CPU and on the simulated device of test/cuda/device. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { buildProgram } from "../../src/codegen/build.ts";
import { type Compiled, compileConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { prepareData } from "../../src/data/prepare.ts";
import type { StepMetrics } from "../../src/launch/follow.ts";
import { runBinary } from "../../src/launch/run-binary.ts";
import { runFile, vocabularySize } from "../../src/launch/run-file.ts";
import { startOf } from "../../src/launch/train.ts";
import { readSafetensors } from "../end-to-end/safetensors.ts";
import { simulatedCuda } from "./simulated-cuda.ts";

const goldens = fileURLToPath(new URL("../golden/", import.meta.url));

export type Settings = Readonly<Record<string, unknown>>;

export interface Run {
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  readonly final: ReadonlyMap<string, Float32Array>;
}

export interface Prepared {
  readonly compiled: Compiled;
  readonly output: string;
  /** Runs to the end; the exit code. */
  start(): Promise<number>;
  metrics(): StepMetrics[];
  /** `start`, which must end well, and what it wrote. */
  run(): Promise<Run>;
}

let runs = 0;

/**
 * Builds what `settings` describe for a target in a folder of its own under `scratch`, ready to be run; the second step is
 * traced into the folder `traces`, where one is given. `host_limit` may be less than a configuration can say.
 */
export async function prepare(
  scratch: string,
  target: "cpu" | "cuda",
  { host_limit, ...settings }: Settings,
  traces: string | null = null,
): Promise<Prepared> {
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
  const on = target === "cuda" ? simulatedCuda : "cpu";
  const { train } = await buildProgram(compiled.sources, build, on, undefined, config.parallel.comm);
  const data = await prepareData(config, vocabularySize(compiled.model));
  const file = join(build, "run.json");
  writeFileSync(file, JSON.stringify(await runFile(config, compiled.model, data, build, traces)));
  const start = async () => {
    const lines = new PassThrough().resume();
    const { exitCode } = await runBinary(train, file, config, { lines, start: await startOf(config, null) });
    return exitCode;
  };
  const metrics = () => {
    const lines = readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n");
    return lines.map((line) => JSON.parse(line) as StepMetrics);
  };
  return {
    compiled,
    output,
    start,
    metrics,
    async run(): Promise<Run> {
      expect(await start()).toBe(0);
      const steps = metrics();
      return {
        losses: steps.map(({ loss }) => loss),
        norms: steps.map(({ grad_norm }) => grad_norm ?? Number.NaN),
        final: readSafetensors(resolve(output, "final/model.safetensors")),
      };
    },
  };
}

/** Relative differences below `distance`. */
export function expectClose(own: readonly number[], expected: readonly number[], distance: number): void {
  expect(own.length).toBe(expected.length);
  own.forEach((value, i) => {
    expect(Math.abs(value / expected[i] - 1), `step ${i + 1}`).toBeLessThan(distance);
  });
}
