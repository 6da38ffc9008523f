/**
 * @file How long the page of `ithaca view` takes to open for a model of eighty layers.
 *
 *     npx tsx bench/view.ts [--layers 80] [--runs 5]
 *
 * Llama-70B's shapes without its weights; from the request of the file to the first drawn layer, in headless Chromium.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values } = parseArgs({
  options: { layers: { type: "string", default: "80" }, runs: { type: "string", default: "5" } },
});
const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "ithaca-bench-view-"));
mkdirSync(join(folder, "model"));
writeFileSync(
  join(folder, "model/config.json"),
  JSON.stringify({
    ...{ model_type: "llama", hidden_size: 8192, intermediate_size: 28672, vocab_size: 128256 },
    ...{ num_hidden_layers: Number(values.layers), num_attention_heads: 64, num_key_value_heads: 8 },
    ...{ rms_norm_eps: 1e-5, rope_theta: 500000, max_position_embeddings: 131072 },
  }),
);
writeFileSync(join(folder, "tokens.bin"), new Uint32Array(4096));
const config = {
  ...{ model: join(folder, "model"), data: join(folder, "tokens.bin"), output_dir: folder },
  ...{ sequence_length: 131072, max_steps: 1, learning_rate: 1e-4, precision: "bf16", threads: 1 },
  parallel: { sequence: 8 },
  memory: { activation_checkpointing: "layer" },
};
writeFileSync(join(folder, "config.json"), JSON.stringify(config));
const page = join(folder, "view.html");
execFileSync(process.execPath, [
  ...["--import", "tsx", join(root, "src/cli/main.ts")],
  ...["view", join(folder, "config.json"), "--out", page],
]);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const seconds: number[] = [];
for (let run = 0; run < Number(values.runs); run++) {
  const tab = await browser.newPage();
  const begin = performance.now();
  await tab.goto(pathToFileURL(page).href);
  await tab.waitForSelector(".drawing .node");
  seconds.push((performance.now() - begin) / 1000);
  await tab.close();
}
await browser.close();
seconds.sort((a, b) => a - b);
const megabytes = (statSync(page).size / 1e6).toFixed(1);
console.log(
  `${values.layers} layers: ${megabytes} MB, open in ${seconds[seconds.length >> 1]?.toFixed(2)} s (median)`,
);
rmSync(folder, { recursive: true });
