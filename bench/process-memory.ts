/**
 * @file Process memory beside the plan: trains random configurations for two steps and compares the most that the process
 * ever had resident, beyond what its start took, with what the plan says.
 *
 *     npx tsx bench/process-memory.ts [--count 20] [--seed 1]
 *
 * The plan's part is the arenas of all ranks, to the byte; PROCESS_BYTES is what the process has besides. Exits with 1
 * where a configuration is more than 5% off.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { random } from "../test/support/random.ts";
import { configFrom, PROCESS_BYTES, runOnce, writeModel, writeTokens } from "./run-once.ts";

const { values: args } = parseArgs({
  options: { count: { type: "string", default: "20" }, seed: { type: "string", default: "1" } },
});
const next = random(Number(args.seed));
const pick = <T>(...choices: readonly T[]): T => choices[Math.floor(next() * choices.length)];

const folder = mkdtempSync(join(tmpdir(), "ithaca-memory-"));
const MiB = 2 ** 20;
const LIMIT = 0.05;

/** A small model on a long sequence, and some way of holding a step's memory. */
function draw(at: number) {
  const kvHeads = pick(2, 4);
  const heads = kvHeads * pick(1, 2);
  const ranks = pick(1, 1, 2);
  const model = join(folder, `model-${at}`);
  writeModel(model, {
    ...{ hidden_size: heads * 32, intermediate_size: pick(384, 640, 1024), num_hidden_layers: pick(2, 3, 5) },
    ...{ num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: 32 },
    ...{ vocab_size: pick(2048, 8192, 16384), tie_word_embeddings: pick(true, false) },
  });
  const checkpointing = pick("off", "layer", "attention");
  const memory = {
    tiled_loss: pick<string | number>("auto", 8),
    tiled_mlp: pick<string | number>("off", 4, 7),
    tiled_projections: pick<string | number>("off", 3),
    head_groups: checkpointing === "attention" ? "off" : pick<string | number>("off", kvHeads / ranks),
    activation_checkpointing: checkpointing,
    activation_offload: checkpointing === "off" ? "off" : pick("off", "host"),
  };
  return {
    model,
    precision: pick("fp32", "bf16"),
    sequence_length: 1000 * Math.floor(5 + 8 * next()),
    gradient_accumulation_steps: pick(1, 1, 2),
    max_grad_norm: pick(null, 1),
    parallel: { sequence: ranks },
    threads: 2 / ranks,
    memory,
  };
}

const tokens = join(folder, "tokens.bin");
writeTokens(tokens, 60_000, 2048, next);
let worst = 0;
try {
  for (let at = 0; at < Number(args.count); at++) {
    const drawn = draw(at);
    const output = join(folder, `run-${at}`);
    const config = configFrom({ ...drawn, data: tokens, output_dir: output, max_steps: 2 }, folder);
    const { metrics } = await runOnce(config);
    const { device_peak_bytes, host_peak_bytes, process_peak_bytes } = metrics;
    const ranks = drawn.parallel.sequence;
    const arenas = ranks * (device_peak_bytes + host_peak_bytes);
    const planned = arenas + PROCESS_BYTES;
    const off = process_peak_bytes / planned - 1;
    worst = Math.max(worst, Math.abs(off));
    const { model: _, memory, ...rest } = drawn;
    const of = (bytes: number) => `${(bytes / MiB).toFixed(1).padStart(7)} MiB`;
    console.log(
      `${of(arenas)} arenas, ${of(planned)} planned, ${of(process_peak_bytes)} resident  ${(100 * off).toFixed(1).padStart(5)}%  ${JSON.stringify({ ...rest, ...memory })}`,
    );
    rmSync(output, { recursive: true });
  }
} finally {
  rmSync(folder, { recursive: true });
}
console.log(`at most ${(100 * worst).toFixed(1)}% off`);
process.exit(worst > LIMIT ? 1 : 0);
