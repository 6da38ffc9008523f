/**
 * @file Times the compiler from definition to generated sources, g++ not included.
 *
 *     npx tsx bench/compile.ts [--json]
 *
 * Each model is compiled by a process of its own, because that is what a user waits for: `cold_s` includes loading the
 * compiler's modules, `warm_s` is the same compilation once more in that process.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { stringify } from "yaml";
import { z } from "zod";

const COMMON = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  rope_theta: 500000.0,
  tie_word_embeddings: false,
  max_position_embeddings: 131072,
};

/** goal_s: the longest that definition to sources should take. */
const MODELS = {
  bench: {
    goal_s: 1,
    config: {
      ...COMMON,
      ...{ hidden_size: 512, num_hidden_layers: 8, num_attention_heads: 8, num_key_value_heads: 4 },
      ...{ intermediate_size: 1536, vocab_size: 32000 },
    },
  },
  "llama-70b": {
    goal_s: 3,
    config: {
      ...COMMON,
      ...{ hidden_size: 8192, num_hidden_layers: 80, num_attention_heads: 64, num_key_value_heads: 8 },
      ...{ intermediate_size: 28672, vocab_size: 128256 },
    },
  },
} as const;

const timing = z.object({ cold_s: z.number(), warm_s: z.number() });

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) / 1000;
}

/** Compiles `config.yaml` twice, in this process. */
async function timeCompiler(configPath: string): Promise<z.output<typeof timing>> {
  const compile = async () => {
    const { compileConfig } = await import("../src/compile.ts");
    const { loadConfig } = await import("../src/config/load.ts");
    await compileConfig(loadConfig(configPath));
  };
  return { cold_s: await seconds(compile), warm_s: await seconds(compile) };
}

function writeInputs(directory: string, config: object): string {
  const model = join(directory, "model");
  mkdirSync(model, { recursive: true });
  writeFileSync(join(model, "config.json"), JSON.stringify(config));
  writeFileSync(join(directory, "tokens.bin"), Buffer.alloc(4 * 8192));
  const path = join(directory, "config.yaml");
  const training = {
    output_dir: join(directory, "run"),
    sequence_length: 4096,
    max_steps: 1,
    learning_rate: 1e-4,
  };
  writeFileSync(
    path,
    stringify({ model, data: join(directory, "tokens.bin"), precision: "bf16", ...training }),
  );
  return path;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { config: { type: "string" }, json: { type: "boolean", default: false } },
  });
  if (values.config) {
    console.log(JSON.stringify(await timeCompiler(values.config)));
    return;
  }
  const directory = mkdtempSync(join(tmpdir(), "ithaca-bench-compile-"));
  const rows = [];
  try {
    for (const [name, { goal_s, config }] of Object.entries(MODELS)) {
      const path = writeInputs(join(directory, name), config);
      const self = fileURLToPath(import.meta.url);
      const answer = execFileSync(process.execPath, ["--import", "tsx", self, "--config", path]).toString();
      rows.push({ model: name, ...timing.parse(JSON.parse(answer)), goal_s });
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  if (values.json) {
    console.log(JSON.stringify({ rows }));
    return;
  }
  console.log("model        cold s   warm s   goal s");
  for (const { model, cold_s, warm_s, goal_s } of rows) {
    console.log(
      `${model.padEnd(11)}${cold_s.toFixed(2).padStart(8)}${warm_s.toFixed(2).padStart(9)}${String(goal_s).padStart(9)}`,
    );
  }
}

await main();
