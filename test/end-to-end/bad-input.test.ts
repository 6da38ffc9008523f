/** @file What can be wrong with what a user gives: the command line says it clearly, and harms no file that was good. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readSafetensors } from "./safetensors.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "ithaca-bad-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

// Every run starts a process that compiles; other test files may have the cores.
const patient = { timeout: 120_000 };

const steps = 8000;
const vocabulary = 64;
const modelConfig = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 16,
  intermediate_size: 32,
  num_attention_heads: 2,
  num_hidden_layers: 1,
  num_key_value_heads: 1,
  rms_norm_eps: 1e-5,
  vocab_size: vocabulary,
  tie_word_embeddings: false,
};
const shapes: Readonly<Record<string, readonly number[]>> = {
  "lm_head.weight": [vocabulary, 16],
  "model.embed_tokens.weight": [vocabulary, 16],
  "model.layers.0.input_layernorm.weight": [16],
  "model.layers.0.mlp.down_proj.weight": [16, 32],
  "model.layers.0.mlp.gate_proj.weight": [32, 16],
  "model.layers.0.mlp.up_proj.weight": [32, 16],
  "model.layers.0.post_attention_layernorm.weight": [16],
  "model.layers.0.self_attn.k_proj.weight": [8, 16],
  "model.layers.0.self_attn.o_proj.weight": [16, 16],
  "model.layers.0.self_attn.q_proj.weight": [16, 16],
  "model.layers.0.self_attn.v_proj.weight": [8, 16],
  "model.norm.weight": [16],
};

interface Entry {
  dtype: string;
  shape: readonly number[];
  data_offsets: [number, number];
}

type Header = Record<string, Entry>;

/** The weights of the model as safetensors, after `change` has been at the header and the numbers. */
function weights(change: (header: Header, data: Float32Array) => void = () => {}): Buffer {
  const header: Header = {};
  let end = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const begin = end;
    end += 4 * shape.reduce((product, size) => product * size, 1);
    header[name] = { dtype: "F32", shape, data_offsets: [begin, end] };
  }
  const data = Float32Array.from({ length: end / 4 }, (_, i) => 0.1 * Math.sin(i));
  change(header, data);
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, Buffer.from(data.buffer)]);
}

function tokens(count: number): Uint16Array {
  return Uint16Array.from({ length: count }, (_, i) => (i * i + (i >> 3)) % vocabulary);
}

/** A folder with a model, tokens and a configuration, all good, and what an earlier good run left in `out`. */
interface Place {
  readonly folder: string;
  readonly config: string;
  readonly weights: string;
  readonly tokens: string;
  readonly out: string;
}

let places = 0;

function place(values: Record<string, unknown> = {}): Place {
  places += 1;
  const folder = join(scratch, `${places}`);
  const made: Place = {
    folder,
    config: join(folder, "config.yaml"),
    weights: join(folder, "model", "model.safetensors"),
    tokens: join(folder, "tokens.bin"),
    out: join(folder, "out"),
  };
  mkdirSync(join(folder, "model"), { recursive: true });
  writeFileSync(join(folder, "model", "config.json"), JSON.stringify(modelConfig, null, 2));
  writeFileSync(made.weights, weights());
  writeFileSync(made.tokens, tokens(32 * 16));
  const config = {
    model: "model",
    data: "tokens.bin",
    output_dir: "out",
    threads: 1,
    sequence_length: 16,
    max_steps: steps,
    learning_rate: 1e-3,
    ...values,
  };
  writeFileSync(
    made.config,
    Object.entries(config)
      .map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`)
      .join(""),
  );
  if (good) cpSync(join(good.out, "final"), join(made.out, "final"), { recursive: true });
  return made;
}

interface Result {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

function start(command: string, args: readonly string[]): { child: ChildProcess; result: Promise<Result> } {
  const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  const result = new Promise<Result>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  return { child, result };
}

const cli = ["--import", "tsx", "src/cli/main.ts"];

function ithaca(...args: string[]): Promise<Result> {
  return start(process.execPath, [...cli, ...args]).result;
}

/** `ithaca train` fails with this message, in which FOLDER is the folder of the place, and leaves the good files alone. */
async function expectRefusal(at: Place, message: string, ...args: string[]): Promise<void> {
  const result = await ithaca("train", at.config, ...args);
  expectMessage(result, at, message);
  expectUnharmed(at.out);
}

function expectMessage({ code, signal, stderr }: Result, at: Place, message: string): void {
  writeFileSync(`/tmp/bi/m${at.folder.split("/").at(-1)}`, `${stderr.replaceAll(at.folder, "FOLDER")}[code ${code}]\n`);
  expect(stderr.replaceAll(at.folder, "FOLDER")).toBe(`${message}\n`);
  expect({ code, signal }).toEqual({ code: 1, signal: null });
}

/** The model of the earlier run is whole, and nothing half-written lies about. */
function expectUnharmed(out: string): void {
  const name = "final/model.safetensors";
  expect(readSafetensors(join(out, name))).toEqual(readSafetensors(join((good as Place).out, name)));
  const leftovers = readdirSync(out, { recursive: true, encoding: "utf8" }).filter((file) =>
    /partial|tmp|writable/.test(file),
  );
  expect(leftovers).toEqual([]);
}

/** Losses by step. */
function losses(out: string): number[] {
  const lines = readFileSync(join(out, "metrics.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => (JSON.parse(line) as { loss: number }).loss);
}

/** A run to the end that nothing interrupts: what others are measured by. */
let good: Place | undefined;

beforeAll(async () => {
  const at = place();
  const { code, stderr } = await ithaca("train", at.config);
  expect(code, stderr).toBe(0);
  good = at;
}, 180_000);

describe.concurrent("weights", patient, () => {
  const last = Object.keys(shapes).length - 1;
  const cases: [string, Buffer, string][] = [
    ["that are cut off", weights().subarray(0, -100), "?"],
    ["that are cut off within the header", weights().subarray(0, 100), "?"],
    ["without a byte", Buffer.alloc(0), "?"],
    [
      "said to be beyond the end of the file",
      weights((header) => {
        header["model.norm.weight"].data_offsets = [1e12, 1e12 + 64];
      }),
      "?",
    ],
    [
      "that overlap",
      weights((header) => {
        header["model.layers.0.input_layernorm.weight"].data_offsets = [0, 64];
      }),
      "?",
    ],
    ["with a header of eighteen exabytes", Buffer.concat([Buffer.alloc(8, 0xff), weights().subarray(8)]), "?"],
    [
      "of another shape",
      weights((header) => {
        header["model.layers.0.self_attn.k_proj.weight"].shape = [16, 8];
      }),
      "?",
    ],
    [
      "with a tensor missing",
      weights((header) => {
        header["model.norm.bias"] = header["model.norm.weight"];
        delete header["model.norm.weight"];
      }),
      "?",
    ],
    [
      "with a NaN in them",
      weights((_, data) => {
        data[vocabulary * 16 + 3 * 16 + 7] = Number.NaN;
      }),
      "?",
    ],
    [
      "that are infinite",
      weights((_, data) => {
        data[data.length - 1] = Number.POSITIVE_INFINITY;
      }),
      "?",
    ],
    ["that are no safetensors", Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:0123\n"), "?"],
  ];
  test.each(cases)("%s are refused", async (_, bytes, message) => {
    void last;
    const at = place();
    writeFileSync(at.weights, bytes);
    await expectRefusal(at, message);
  });
});

describe.concurrent("data", patient, () => {
  const beyond = tokens(32 * 16);
  beyond[77] = vocabulary;
  const cases: [string, Uint8Array, string][] = [
    ["with a token beyond the vocabulary", new Uint8Array(beyond.buffer), "?"],
    ["without a byte", new Uint8Array(), "?"],
    ["shorter than one sample", new Uint8Array(tokens(15).buffer), "?"],
    ["cut off within a token", new Uint8Array(tokens(32 * 16).buffer).subarray(0, -1), "?"],
  ];
  test.each(cases)("%s are refused", async (_, bytes, message) => {
    const at = place();
    writeFileSync(at.tokens, bytes);
    await expectRefusal(at, message);
  });
  test("an empty text", async () => {
    const at = place({ data: "book.txt", tokenizer: "tokenizer.json" });
    writeFileSync(join(at.folder, "book.txt"), "");
    writeFileSync(join(at.folder, "tokenizer.json"), "{}");
    await expectRefusal(at, "?");
  });
});

describe.concurrent("config", patient, () => {
  test("model_type", async () => {
    const at = place();
    writeFileSync(
      join(at.folder, "model", "config.json"),
      JSON.stringify({ ...modelConfig, model_type: "lama" }, null, 2),
    );
    await expectRefusal(at, "?");
  });
  test("model_type 2", async () => {
    const at = place();
    writeFileSync(
      join(at.folder, "model", "config.json"),
      JSON.stringify({ ...modelConfig, model_type: "gpt2" }, null, 2),
    );
    await expectRefusal(at, "?");
  });
  for (const text of [JSON.stringify(modelConfig, null, 2).replace(",", ""), "", "{\n  \"a\": 1\n", "[1]", "{\"a\": nope}", "\u0000\u0001"]) 
  test("broken json " + text.slice(0, 5), async () => {
    const at = place();
    writeFileSync(join(at.folder, "model", "config.json"), text);
    await expectRefusal(at, "?");
  });
  test("unknown key, wrong value", async () => {
    const at = place({ learnig_rate: 1, max_steps: "many", lr_scheduler_type: "cosin" });
    await expectRefusal(at, "?");
  });
  test("limit", async () => {
    const at = place({ memory: { device_limit: "1MiB" }, sequence_length: 20000 });
    await expectRefusal(at, "?");
  });
  test("nan", async () => {
    const at = place({ learning_rate: 1e30 });
    await expectRefusal(at, "?");
  });
});
