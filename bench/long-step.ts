/**
 * @file One training step of a very long sequence on this machine, its memory as planned.
 *
 *     npx tsx bench/long-step.ts [--tokens 131072] [--limit 1GiB] [--window 4096] [--precision bf16]
 *
 * A small model (4 layers, width 256) attends to a window of tokens, or with --window 0 to all before. Prints what the plan
 * says and what the process had. Exits with 1 where they are more than 5% apart.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { printBytes } from "../src/ir/units.ts";
import { random } from "../test/support/random.ts";
import { configFrom, PROCESS_BYTES, runOnce, writeModel, writeTokens } from "./run-once.ts";

const { values: args } = parseArgs({
  options: {
    tokens: { type: "string", default: "131072" },
    limit: { type: "string", default: "1GiB" },
    window: { type: "string", default: "4096" },
    precision: { type: "string", default: "bf16" },
  },
});
const [tokens, window] = [Number(args.tokens), Number(args.window)];
const folder = mkdtempSync(join(tmpdir(), "ithaca-long-"));
try {
  writeModel(join(folder, "model"), {
    ...{ hidden_size: 256, intermediate_size: 1024, num_hidden_layers: 4, head_dim: 32, vocab_size: 8192 },
    ...{ num_attention_heads: 8, num_key_value_heads: 4, max_position_embeddings: tokens },
    ...(window > 0 && {
      model_type: "mistral",
      architectures: ["MistralForCausalLM"],
      sliding_window: window,
    }),
  });
  writeTokens(join(folder, "tokens.bin"), tokens + 1, 8192, random(1));
  const values = {
    ...{ model: join(folder, "model"), data: join(folder, "tokens.bin"), output_dir: join(folder, "run") },
    ...{
      precision: args.precision,
      sequence_length: tokens,
      max_steps: 1,
      memory: { device_limit: args.limit },
    },
  };
  const config = configFrom(values, folder);
  const { compiled, metrics } = await runOnce(config);
  const { plan } = compiled;
  const planned = plan.deviceBytes + plan.hostBytes + PROCESS_BYTES;
  const off = metrics.process_peak_bytes / planned - 1;
  console.log(
    [
      `tokens    ${tokens.toLocaleString("en")}, window ${window || "none"}, ${args.precision}, ${config.threads} threads`,
      `planned   ${printBytes(plan.deviceBytes)} on the device, ${printBytes(plan.hostBytes)} on the host, ${printBytes(planned)} with the process's own`,
      `resident  ${printBytes(metrics.process_peak_bytes)} (${(100 * off).toFixed(1)}%)`,
      `step      ${metrics.step_time_s.toFixed(1)} s, loss ${metrics.loss.toFixed(4)}`,
    ].join("\n"),
  );
  process.exitCode = Math.abs(off) > 0.05 ? 1 : 0;
} finally {
  rmSync(folder, { recursive: true });
}
