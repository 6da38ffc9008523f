/**
 * @file Times a step with offload beside one without, at equal recompute: what copies to and from host memory cost, and with
 * `--spill FOLDER` those to and from a file there, which then takes half of what host memory would.
 *
 *     npx tsx bench/offload.ts [--sequence 2048] [--precision bf16] [--policy layer,attention] [--steps 5] [--spill FOLDER] [--json]
 *
 * The programs are loaded by this process and stepped in turn, each going first as often as the others, so a machine that is
 * slow for a while is slow for all. Their weights and tokens are the same, and so must be the bits of every loss.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildProgram } from "../src/codegen/build.ts";
import { compileConfig } from "../src/compile.ts";
import { parseConfig } from "../src/config/load.ts";
import { openProgram, type Program } from "../src/launch/program.ts";

/** The model of step.ts. */
const MODEL = {
  ...{ architectures: ["LlamaForCausalLM"], model_type: "llama", hidden_act: "silu", rms_norm_eps: 1e-5 },
  ...{ hidden_size: 512, num_hidden_layers: 8, num_attention_heads: 8, num_key_value_heads: 4 },
  ...{ intermediate_size: 1536, vocab_size: 32000, rope_theta: 500000, tie_word_embeddings: false },
};

interface Setting {
  readonly folder: string;
  readonly sequence: number;
  readonly precision: string;
  readonly policy: string;
  readonly threads: number;
  /** The folder of files; undefined: nothing is spilled. */
  readonly spill: string | undefined;
}

/** With `hostLimit`, what host memory has no room for is spilled. */
async function programOf(
  setting: Setting,
  offload: "off" | "host",
  hostLimit: number | null = null,
): Promise<Program> {
  const { folder, sequence, precision, policy, threads, spill } = setting;
  const output = join(folder, `${policy}-${offload}-${hostLimit ?? "all"}-${precision}-${sequence}`);
  const values = {
    ...{ model: join(folder, "model"), data: join(folder, "tokens.bin"), output_dir: output },
    ...{
      sequence_length: sequence,
      max_steps: 1,
      learning_rate: 1e-4,
      max_grad_norm: null,
      precision,
      threads,
    },
    memory: { activation_checkpointing: policy, activation_offload: offload },
  };
  const { memory, ...rest } = parseConfig(JSON.stringify(values), join(folder, "config.yaml"));
  const limits = hostLimit === null ? {} : { host_limit: hostLimit, host_spill: spill ?? null };
  const { sources } = await compileConfig({ ...rest, memory: { ...memory, ...limits } });
  const built = await buildProgram(sources, join(output, "build"), "cpu", console.error);
  const program = await openProgram(built.program, {
    threads,
    ...(spill !== undefined && { hostSpill: spill }),
  });
  await program.load({ seed: 1 });
  const fill = (name: string, of: (index: number) => number) => {
    const view = program.view(name);
    view.forEach((_, index) => {
      view[index] = of(index);
    });
  };
  fill("input_ids", (i) => (i * 7919 + 13) % MODEL.vocab_size);
  fill("labels", (i) => (i === sequence - 1 ? -100 : ((i + 1) * 7919 + 13) % MODEL.vocab_size));
  fill("position_ids", (i) => i);
  fill("segments", () => 0);
  fill("learning_rate", () => 1e-4);
  return program;
}

async function stepOnce(program: Program, step: number): Promise<{ seconds: number; loss: number }> {
  program.view("step")[0] = step;
  const begin = performance.now();
  await program.step();
  return { seconds: (performance.now() - begin) / 1000, loss: program.view("loss")[0] as number };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

async function race(setting: Setting, warmup: number, steps: number) {
  const [off, host] = [await programOf(setting, "off"), await programOf(setting, "host")];
  const file = setting.spill === undefined ? null : await programOf(setting, "host", host.hostBytes / 2);
  const programs = file ? [off, host, file] : [off, host];
  const seconds: number[][] = programs.map(() => []);
  for (let step = 1; step <= warmup + steps; step++) {
    const losses: number[] = [];
    for (let turn = 0; turn < programs.length; turn++) {
      const side = (step + turn) % programs.length;
      const own = await stepOnce(programs[side], step);
      losses[side] = own.loss;
      if (step > warmup) seconds[side].push(own.seconds);
    }
    if (new Set(losses).size > 1) throw new Error(`step ${step}: the losses are ${losses.join(" and ")}`);
  }
  const row = {
    policy: setting.policy,
    precision: setting.precision,
    sequence_length: setting.sequence,
    off_s: median(seconds[0]),
    host_s: median(seconds[1]),
    ratio: median(seconds[1]) / median(seconds[0]),
    off_device_bytes: off.deviceBytes,
    host_device_bytes: host.deviceBytes,
    host_bytes: host.hostBytes,
    file: file && {
      seconds: median(seconds[2]),
      ratio: median(seconds[2]) / median(seconds[0]),
      host_bytes: file.hostBytes,
      file_bytes: file.fileBytes,
    },
  };
  for (const program of programs) program.close();
  return row;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      sequence: { type: "string", default: "2048" },
      precision: { type: "string", default: "bf16" },
      policy: { type: "string", default: "layer,attention" },
      steps: { type: "string", default: "5" },
      warmup: { type: "string", default: "1" },
      threads: { type: "string", default: String(availableParallelism()) },
      spill: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const folder = mkdtempSync(join(tmpdir(), "ithaca-bench-offload-"));
  const rows = [];
  try {
    mkdirSync(join(folder, "model"));
    writeFileSync(join(folder, "model", "config.json"), JSON.stringify(MODEL));
    writeFileSync(join(folder, "tokens.bin"), Buffer.alloc(4 * (Number(values.sequence) + 1)));
    if (!values.json)
      console.log("policy     precision  tokens   off s  host s  ratio  device MB off  on host  host MB");
    for (const policy of values.policy.split(",")) {
      const { spill } = values;
      const [sequence, threads] = [Number(values.sequence), Number(values.threads)];
      const setting = { folder, policy, sequence, threads, spill };
      const row = await race(
        { ...setting, precision: values.precision },
        Number(values.warmup),
        Number(values.steps),
      );
      rows.push(row);
      const megabytes = (bytes: number, width: number) => (bytes / 1e6).toFixed(0).padStart(width);
      if (!values.json)
        console.log(
          `${policy.padEnd(11)}${row.precision.padEnd(9)}${String(row.sequence_length).padStart(8)}${row.off_s.toFixed(3).padStart(8)}${row.host_s.toFixed(3).padStart(8)}${row.ratio.toFixed(3).padStart(7)}${megabytes(row.off_device_bytes, 15)}${megabytes(row.host_device_bytes, 9)}${megabytes(row.host_bytes, 9)}`,
        );
      if (values.json || !row.file) continue;
      const { seconds, ratio, host_bytes, file_bytes } = row.file;
      console.log(
        `  with a file ${seconds.toFixed(3)} s, ratio ${ratio.toFixed(3)}, host MB${megabytes(host_bytes, 5)}, file MB${megabytes(file_bytes, 5)}`,
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  if (values.json) console.log(JSON.stringify({ rows }));
}

await main();
