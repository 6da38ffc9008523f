/** @file What can be wrong with what a user gives: the command line says it clearly, and harms no file that was good. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
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
const samples = 32;
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
  writeFileSync(made.tokens, tokens(samples * 16));
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
  if (places > 1) cpSync(join(good.out, "final"), join(made.out, "final"), { recursive: true });
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

/** `ithaca train` fails with this message, in which FOLDER is the folder of the place, and harms nothing. */
async function expectRefusal(at: Place, message: string | RegExp): Promise<void> {
  expectMessage(await ithaca("train", at.config), at, message);
  expectUnharmed(at.out);
}

function expectMessage({ code, signal, stderr }: Result, at: Place, message: string | RegExp): void {
  const said = stderr.replaceAll(at.folder, "FOLDER").trimEnd();
  if (typeof message === "string") expect(said).toBe(message);
  else expect(said).toMatch(message);
  expect(said).not.toMatch(/^ +at /m);
  expect({ code, signal }).toEqual({ code: 1, signal: null });
}

/** The model of the earlier run is whole, and nothing half-written lies about. */
function expectUnharmed(out: string): void {
  const name = "final/model.safetensors";
  expect(readSafetensors(join(out, name))).toEqual(readSafetensors(join(good.out, name)));
  const files = readdirSync(out, { recursive: true, encoding: "utf8" });
  expect(files.filter((file) => /partial|tmp|writable/.test(file))).toEqual([]);
}

/** Losses of all steps. */
function losses(out: string): number[] {
  const lines = readFileSync(join(out, "metrics.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => (JSON.parse(line) as { loss: number }).loss);
}

/** A run that went well. Its final model lies in the output folder of every place that comes later. */
let good: Place;

beforeAll(async () => {
  const at = place();
  const { code, stderr } = await ithaca("train", at.config);
  expect(code, stderr).toBe(0);
  good = at;
}, 180_000);

describe.concurrent("weights are refused, and it is said where and why:", patient, () => {
  const file = "ithaca: FOLDER/model/model.safetensors";
  const cases: readonly [string, Buffer, string][] = [
    [
      "a file that is cut off",
      weights().subarray(0, -100),
      `${file}: tensor "model.layers.0.self_attn.v_proj.weight" is said to be at bytes 17024 to 17536, the file has 17500 bytes of data; it is truncated or damaged`,
    ],
    [
      "a file that is cut off within its header",
      weights().subarray(0, 100),
      `${file}: the header is said to have 1142 bytes, the file has 100; it is truncated, damaged or no safetensors file`,
    ],
    [
      "an empty file",
      Buffer.alloc(0),
      `${file} has 0 bytes, a safetensors file has at least 8; it is truncated`,
    ],
    [
      "the pointer that git-lfs left in its place",
      Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:0123\n"),
      `${file} is a git-lfs pointer, not the weights; \`git lfs pull\` fetches them`,
    ],
    [
      "a header of eighteen exabytes",
      Buffer.concat([Buffer.alloc(8, 0xff), weights().subarray(8)]),
      `${file}: the header is said to have 18446744073709551615 bytes, the file has 18750; it is truncated, damaged or no safetensors file`,
    ],
    [
      "offsets beyond the end of the file",
      weights((header) => {
        header["model.norm.weight"].data_offsets = [1e12, 1e12 + 64];
      }),
      `${file}: tensor "model.norm.weight" is said to be at bytes 1000000000000 to 1000000000064, the file has 17600 bytes of data; it is truncated or damaged`,
    ],
    [
      "tensors that overlap",
      weights((header) => {
        header["model.norm.weight"].data_offsets = [17504, 17568];
      }),
      `${file}: tensor "model.norm.weight" starts at byte 17504 of the data, the one before ends at 17536; they overlap, so the file is damaged`,
    ],
    [
      "a tensor of another shape",
      weights((header) => {
        header["model.layers.0.self_attn.k_proj.weight"].shape = [16, 8];
      }),
      `${file}: tensor "model.layers.0.self_attn.k_proj.weight" has shape [16, 8], the model needs [8, 16]; the weights belong to another configuration`,
    ],
    [
      "a tensor that is missing",
      weights((header) => {
        header["model.norm.scale"] = header["model.norm.weight"];
        delete header["model.norm.weight"];
      }),
      `ithaca: the weights have no tensor "model.norm.weight" of shape [16]; looked in FOLDER/model/model.safetensors. They are incomplete, or belong to another configuration`,
    ],
    [
      "a NaN",
      weights((_, data) => {
        data[(vocabulary + 3) * 16 + 7] = Number.NaN;
      }),
      `${file}: tensor "model.embed_tokens.weight" has NaN at element [3, 7]; training can't start from it`,
    ],
  ];
  test.each(cases)("%s", async (_, bytes, message) => {
    const at = place();
    writeFileSync(at.weights, bytes);
    await expectRefusal(at, message);
  });
});

describe.concurrent("data are refused before the first step:", patient, () => {
  const beyond = tokens(samples * 16);
  beyond[77] = vocabulary;
  const cases: readonly [string, Uint16Array, string][] = [
    [
      "a token beyond the vocabulary",
      beyond,
      "ithaca: FOLDER/tokens.bin: token 77 is 64, the vocabulary has 64; the file was made with another tokenizer, or its dtype is another one",
    ],
    [
      "an empty file",
      new Uint16Array(),
      "ithaca: FOLDER/tokens.bin is empty; it must hold at least one sample of 16 tokens",
    ],
    [
      "fewer tokens than one sample",
      tokens(15),
      "ithaca: FOLDER/tokens.bin has 15 tokens, a sample needs 16; add data or lower sequence_length",
    ],
  ];
  test.each(cases)("%s", async (_, ids, message) => {
    const at = place();
    writeFileSync(at.tokens, ids);
    await expectRefusal(at, message);
  });

  test.each([
    ["an empty text", "", "there is no text in the file"],
    [
      "a text of fewer tokens than one sample",
      "abba",
      "the text has 4 tokens, a sample needs 16\n  Add data or lower sequence_length.",
    ],
  ])("%s", async (_, text, message) => {
    const at = place({ data: "book.txt", tokenizer: "tokenizer.json" });
    writeFileSync(join(at.folder, "book.txt"), text);
    const tokenizer = {
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
      model: { type: "BPE", vocab: { a: 0, b: 1 }, merges: [] },
    };
    writeFileSync(join(at.folder, "tokenizer.json"), JSON.stringify(tokenizer));
    await expectRefusal(at, `FOLDER/book.txt: ${message}`);
  });
});

describe.concurrent("configurations are refused with the line that is wrong:", patient, () => {
  const whole = JSON.stringify(modelConfig, null, 2);
  test.each([
    [
      "an unknown model_type",
      whole.replace('"llama"', '"lama"'),
      `FOLDER/model/config.json:5:3: model_type "lama" is not known
  4 |   ],
> 5 |   "model_type": "lama",
    |   ^
  6 |   "hidden_size": 16,
  Did you mean "llama"? Known are llama, mistral, qwen2, qwen3.
  Any other model can be written as a definition; src/models/llama.ts is one to start from.
  model: { source: my-model.ts, config: { ... } }`,
    ],
    [
      "a config.json without a comma",
      whole.replace("],", "]"),
      `FOLDER/model/config.json:5:3: this is not JSON: Expected ',' or '}' after property value
  4 |   ]
> 5 |   "model_type": "llama",
    |   ^
  6 |   "hidden_size": 16,`,
    ],
    [
      "a config.json with what only Python writes",
      whole.replace("false", "False"),
      `FOLDER/model/config.json:13:26: this is not JSON: Unexpected token 'F'
  12 |   "vocab_size": 64,
> 13 |   "tie_word_embeddings": False
     |                          ^
  14 | }`,
    ],
    [
      "an empty config.json",
      "",
      "FOLDER/model/config.json:1:1: this is not JSON: Unexpected end of JSON input\n> 1 |\n    | ^",
    ],
  ])("%s", async (_, json, message) => {
    const at = place();
    writeFileSync(join(at.folder, "model", "config.json"), json);
    await expectRefusal(at, message);
  });

  test("an unknown key and a wrong value, both at once", async () => {
    const at = place({ learnig_rate: 1, lr_scheduler_type: "cosin" });
    await expectRefusal(
      at,
      `FOLDER/config.yaml:8:1: there is no key "learnig_rate"
  6 | max_steps: ${steps}
  7 | learning_rate: 0.001
> 8 | learnig_rate: 1
    | ^^^^^^^^^^^^
  9 | lr_scheduler_type: "cosin"
  Did you mean learning_rate?

FOLDER/config.yaml:9:20: lr_scheduler_type is "cosin"; it must be constant, linear or cosine
   7 | learning_rate: 0.001
   8 | learnig_rate: 1
>  9 | lr_scheduler_type: "cosin"
     |                    ^^^^^^^
  10 |
  Did you mean cosine?`,
    );
  });

  test("a memory.device_limit that is too small, with what is missing", async () => {
    const at = place({ sequence_length: 20_000, memory: { device_limit: "1MiB" } });
    const { stderr } = await ithaca("train", at.config);
    const [, needed, missing] =
      /^a step needs (\S+) MiB of device memory, (\S+) MiB more than memory.device_limit \(1.0 MiB\)\n {2}Raise memory.device_limit. Even with this, it needs \S+ MiB of device memory: set memory.optimizer_offload: host, use precision: bf16, share the sequence between more ranks \(parallel.sequence: 2\)\.\n/.exec(
        stderr,
      ) ?? [];
    expect(Number(needed) - Number(missing), stderr).toBeCloseTo(1);
    expectUnharmed(at.out);
  });
});

// A user of one's own makes mounts possible without being root, where the system allows it.
const namespace = ["--mount", ...(process.getuid?.() === 0 ? [] : ["--map-root-user"])];
const probe = spawnSync("unshare", [...namespace, "mount", "-t", "tmpfs", "tmpfs", scratch], {
  encoding: "utf8",
});
const canMount = probe.status === 0;
if (!canMount) {
  const why = probe.error?.message ?? probe.stderr.trim();
  console.warn(
    `tests of a read-only and of a full disk are skipped: this system lets us mount nothing (${why})`,
  );
}

/** Runs `ithaca train` where `mounting`, a shell script with the output folder as $1, has prepared that folder. */
function trainMounted(at: Place, mounting: string, ...args: string[]): Promise<Result> {
  const train = [process.execPath, ...cli, "train", at.config, ...args];
  // What is in the folder goes away with the mount, so it is copied.
  const script = `set -e; ${mounting}; out=$1; after=$2; shift 2; code=0; "$@" || code=$?; cp -a "$out" "$after"; exit $code`;
  return start("unshare", [
    ...namespace,
    "sh",
    "-c",
    script,
    "sh",
    at.out,
    join(at.folder, "after"),
    ...train,
  ]).result;
}

describe.concurrent("an output_dir that can't be written to is named:", patient, () => {
  test("a file of that name", async () => {
    const at = place({ output_dir: "tokens.bin" });
    await expectRefusal(
      at,
      "output_dir FOLDER/tokens.bin can't be written to: there is a file of that name\n  Choose another folder: output_dir in the configuration, or --set output_dir=...",
    );
    expect(readFileSync(at.tokens)).toEqual(readFileSync(good.tokens));
  });

  test.runIf(canMount)("a read-only file system", async () => {
    const at = place();
    const result = await trainMounted(at, 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"');
    expectMessage(
      result,
      at,
      "output_dir FOLDER/out can't be written to: the file system is read-only\n  Choose another folder: output_dir in the configuration, or --set output_dir=...",
    );
    expectUnharmed(at.out);
  });

  // The earlier model, a page of metrics, and less than a second model.
  const small = (at: Place) =>
    `mv "$1/final" "$1/../kept"; mount -t tmpfs -o size=40k tmpfs "$1"; cp -r "$1/../kept" "$1/final"; mkdir ${at.folder}/build`;

  test.runIf(canMount)("a disk that is full before the program is there", async () => {
    const at = place();
    expectMessage(
      await trainMounted(at, small(at)),
      at,
      /^FOLDER\/out\/build\/[\w.]+: no space left on the device\n {2}Make room, or choose another place: output_dir /,
    );
    expectUnharmed(join(at.folder, "after"));
  });

  test.runIf(canMount)("a disk that is full when the model is to be saved", async () => {
    const at = place();
    const elsewhere = `${small(at)}; ln -s ${at.folder}/build "$1/build"`;
    expectMessage(
      await trainMounted(at, elsewhere, "--set", "max_steps=3"),
      at,
      /^ithaca: can't write FOLDER\/out\/\.final\.partial\/model\.safetensors: No space left on device; 18\.3\d KiB \(18\d\d\d bytes\) are needed, [\d.]+ KiB \(\d+ bytes\) are free\. Make room or choose another output_dir$/,
    );
    expectUnharmed(join(at.folder, "after"));
    expect(losses(join(at.folder, "after"))).toEqual(losses(good.out).slice(0, 3));
  });
});

describe.concurrent(
  "a memory.host_spill that can't be used is refused before the first step:",
  patient,
  () => {
    // Seven inputs of layers, of 512 KiB each, of which two fit.
    const values = (at: string) => ({
      data: "long.bin",
      sequence_length: 8192,
      max_steps: 1,
      memory: {
        ...{ activation_checkpointing: "layer", activation_offload: "host" },
        ...{ host_limit: "1MiB", host_spill: at },
      },
    });
    const deep = (spill: string): Place => {
      const at = place(values(spill));
      const config = JSON.stringify({ ...modelConfig, num_hidden_layers: 8 });
      writeFileSync(join(at.folder, "model", "config.json"), config);
      rmSync(at.weights);
      writeFileSync(join(at.folder, "long.bin"), tokens(8192));
      return at;
    };

    test("a folder that is not there", async () => {
      await expectRefusal(
        deep("nvme"),
        /^FOLDER\/config.yaml:8:\d+: there is no folder FOLDER\/nvme\n[\s\S]*Make it, or name a folder on a fast local disk\.$/,
      );
    });

    test.runIf(canMount)("a disk that is too small", async () => {
      const at = deep("nvme");
      mkdirSync(join(at.folder, "nvme"));
      const mounted = await trainMounted(at, 'mount -t tmpfs -o size=1m tmpfs "$1/../nvme"');
      expectMessage(
        mounted,
        at,
        /^(?:compiling .*\n)?ithaca: memory\.host_spill: can't write FOLDER\/nvme: No space left on device; 2\.\d\d MiB \(\d+ bytes\) are needed, [\d.]+ \w+ \(\d+ bytes\) are free\. Make room, choose another folder, or raise memory\.host_limit so that less is spilled$/,
      );
      expectUnharmed(at.out);
    });
  },
);

describe.concurrent("a run that ends early", patient, () => {
  test("says at which step and learning rate a number became NaN, and saves nothing", async () => {
    const at = place({ learning_rate: 1e30, snapshot_every: 100 });
    await expectRefusal(
      at,
      /^ithaca: step 2: the (loss|gradient norm) is NaN at learning rate 1e\+30; nothing after step 1 was written\. Lower learning_rate, add warmup_steps, or resume from an earlier snapshot$/,
    );
    expect(losses(at.out)).toEqual(losses(good.out).slice(0, 1));
  });

  test("by Ctrl-C leaves a snapshot, and resumed it ends where an uninterrupted one does", async () => {
    const at = place({ snapshot_every: 1_000_000 });
    const { child, result } = start(process.execPath, [...cli, "train", at.config]);
    const hasBegun = () =>
      (statSync(join(at.out, "metrics.jsonl"), { throwIfNoEntry: false })?.size ?? 0) > 0;
    while (child.exitCode === null && !hasBegun()) await sleep(5);
    child.kill("SIGINT");
    const { code, signal, stderr } = await result;
    expect({ code, signal }, stderr).toEqual({ code: 130, signal: null });
    const [, step, snapshot] =
      /^ithaca: interrupted after step (\d+); resume from (\S+)$/m.exec(stderr) ?? [];
    expect(snapshot, stderr).toBe(join(at.out, "snapshots", `step-${step}`));
    expect(Number(step)).toBeLessThan(steps);
    expect(losses(at.out)).toEqual(losses(good.out).slice(0, Number(step)));
    expectUnharmed(at.out);

    rmSync(join(at.out, "final"), { recursive: true });
    const resumed = await ithaca("train", at.config, "--set", `resume=${snapshot}`);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(losses(at.out)).toEqual(losses(good.out));
    expectUnharmed(at.out);
  });
});
