/** @file What config.yaml may say, and the whole message when it says something else. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadConfig, parseConfig } from "../../src/config/load.ts";
import { formatError, UserError } from "../../src/ir/error.ts";

let folder: string;
const home = process.cwd();

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ithaca-config-"));
  mkdirSync(join(folder, "model"));
  writeFileSync(join(folder, "model/config.json"), "{}");
  writeFileSync(join(folder, "tokens.bin"), new Uint8Array(8));
  writeFileSync(join(folder, "book.txt"), "In the beginning");
  writeFileSync(join(folder, "my-model.ts"), "");
  process.chdir(folder);
});

afterAll(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true });
});

const minimal = `model: model
data: tokens.bin
output_dir: runs/first
sequence_length: 4096
max_steps: 20
learning_rate: 1.0e-3
`;

function message(text: string, ...overrides: string[]): string {
  try {
    parseConfig(text, "config.yaml", overrides);
  } catch (error) {
    if (error instanceof UserError) return formatError(error).replaceAll(folder, "<folder>");
    throw error;
  }
  return "accepted";
}

describe("a good file", () => {
  test("has defaults for everything that is not about this run", () => {
    const { threads, ...config } = parseConfig(minimal, "config.yaml");
    expect(threads).toBeGreaterThan(0);
    expect(config).toEqual({
      model: { directory: join(folder, "model") },
      data: join(folder, "tokens.bin"),
      tokenizer: null,
      text_field: "text",
      output_dir: join(folder, "runs/first"),
      target: "cpu",
      ops: [],
      passes: [],
      precision: "fp32",
      sequence_length: 4096,
      micro_batch_size: 1,
      gradient_accumulation_steps: 1,
      max_steps: 20,
      seed: 0,
      learning_rate: 1e-3,
      lr_scheduler_type: "constant",
      machine: null,
      gpus: null,
      warmup_steps: 0,
      weight_decay: 0.1,
      adam_beta1: 0.9,
      adam_beta2: 0.95,
      adam_epsilon: 1e-8,
      max_grad_norm: 1,
      snapshot_every: 0,
      resume: null,
      parallel: {
        sequence: 1,
        data: 1,
        zero_stage: 0,
        comm: "local",
        hosts: null,
        timeout: 30,
        launcher_args: [],
      },
      memory: {
        tiled_loss: "auto",
        tiled_mlp: "auto",
        tiled_projections: "auto",
        head_groups: "auto",
        activation_checkpointing: "auto",
        checkpoint_every: "auto",
        activation_offload: "auto",
        optimizer_offload: "off",
        parameter_offload: "off",
        device_limit: null,
        host_limit: null,
        host_spill: null,
      },
    });
  });

  test.each([
    ["sequence_length=1Mi", "sequence_length", 1_048_576],
    ["sequence_length=1M", "sequence_length", 1_000_000],
    ["sequence_length=1_048_576", "sequence_length", 1_048_576],
    ["max_grad_norm=null", "max_grad_norm", null],
    ["learning_rate=5e-5", "learning_rate", 5e-5],
    ["memory.device_limit=80GiB", "memory.device_limit", 80 * 2 ** 30],
    ["memory.device_limit=1.5 gb", "memory.device_limit", 1.5e9],
    ["memory.activation_checkpointing=off", "memory.activation_checkpointing", "off"],
  ])("reads %s", (option, path, expected) => {
    expect(parseConfig(minimal, "config.yaml", [option])).toHaveProperty(path, expected);
  });

  test("takes paths relative to the file, and those of --set relative to the working directory", () => {
    mkdirSync(join(folder, "elsewhere"));
    const text = minimal.replace("model: model", "model: ../model").replace("tokens.bin", "../tokens.bin");
    writeFileSync(join(folder, "elsewhere/config.yaml"), text);
    const config = loadConfig("elsewhere/config.yaml", ["output_dir=out"]);
    expect(config.model).toEqual({ directory: join(folder, "model") });
    expect(config.data).toBe(join(folder, "tokens.bin"));
    expect(config.output_dir).toBe(join(folder, "out"));
  });

  test("may name a definition of its own", () => {
    const config = parseConfig(minimal, "config.yaml", ["model={source: my-model.ts, config: {layers: 2}}"]);
    expect(config.model).toEqual({ source: join(folder, "my-model.ts"), config: { layers: 2 } });
  });

  test("an empty section is as good as none", () => {
    expect(parseConfig(`${minimal}memory:\n`, "config.yaml").memory.tiled_loss).toBe("auto");
  });
});

describe("a file with a mistake", () => {
  test("shows the value, what it must be, and the place", () => {
    expect(message(minimal.replace("4096", "4o96"))).toMatchInlineSnapshot(`
      "config.yaml:4:18: sequence_length is "4o96"; it must be a whole number of at least 2
        2 | data: tokens.bin
        3 | output_dir: runs/first
      > 4 | sequence_length: 4o96
          |                  ^^^^
        5 | max_steps: 20
        Thousands are 128K (128,000) or 1M, powers of two 128Ki (131,072) or 1Mi; "_" may group digits."
    `);
  });

  test("offers the nearest key and the nearest choice, and does not also call the key missing", () => {
    const text = minimal
      .replace("sequence_length", "sequence_lenght")
      .replace("max_steps", "precision: fp23\nmax_steps");
    expect(message(text)).toMatchInlineSnapshot(`
      "config.yaml:4:1: there is no key "sequence_lenght"
        2 | data: tokens.bin
        3 | output_dir: runs/first
      > 4 | sequence_lenght: 4096
          | ^^^^^^^^^^^^^^^
        5 | precision: fp23
        Did you mean sequence_length?

      config.yaml:5:12: precision is "fp23"; it must be fp32 or bf16
        3 | output_dir: runs/first
        4 | sequence_lenght: 4096
      > 5 | precision: fp23
          |            ^^^^
        6 | max_steps: 20
        Did you mean fp32?"
    `);
  });

  test("knows keys of other trainers and keys that belong into a section", () => {
    expect(message(`${minimal}lr: 1\nzero_stage: 3\n`)).toMatchInlineSnapshot(`
      "config.yaml:7:1: there is no key "lr"
        5 | max_steps: 20
        6 | learning_rate: 1.0e-3
      > 7 | lr: 1
          | ^^
        8 | zero_stage: 3
        Did you mean learning_rate?

      config.yaml:8:1: there is no key "zero_stage"
        6 | learning_rate: 1.0e-3
        7 | lr: 1
      > 8 | zero_stage: 3
          | ^^^^^^^^^^
        9 |
        Did you mean parallel.zero_stage?"
    `);
  });

  test("lists the keys when none is near", () => {
    expect(message(`${minimal}parallel: { foo: 1 }\n`)).toMatchInlineSnapshot(`
      "config.yaml:7:13: there is no key "parallel.foo"
        5 | max_steps: 20
        6 | learning_rate: 1.0e-3
      > 7 | parallel: { foo: 1 }
          |             ^^^
        8 |
        The keys of parallel are sequence, data, zero_stage, comm, hosts, timeout, launcher_args."
    `);
  });

  test("asks for a unit", () => {
    expect(message(`${minimal}memory:\n  device_limit: 80\n`)).toMatchInlineSnapshot(`
      "config.yaml:8:17: memory.device_limit is 80; it must be a size such as 80GiB (at least 1MiB), or null for no limit
        6 | learning_rate: 1.0e-3
        7 | memory:
      > 8 |   device_limit: 80
          |                 ^^
        9 |
        Units are KiB, MiB, GiB, TiB (powers of 1,024) and kB, MB, GB, TB (powers of 1,000)."
    `);
  });

  test("says what is missing", () => {
    expect(
      message("model: model\noutput_dir: out\nsequence_length: 8\nmax_steps: 1\n"),
    ).toMatchInlineSnapshot(`
      "config.yaml: data is missing; it must be a .bin, .txt, .jsonl or .parquet file

      config.yaml: learning_rate is missing; it must be a number of at least 0"
    `);
  });

  test("refuses a section that is a value", () => {
    expect(message(`${minimal}parallel: 8\n`)).toMatchInlineSnapshot(`
      "config.yaml:7:11: parallel is 8; it must be a section of keys
        5 | max_steps: 20
        6 | learning_rate: 1.0e-3
      > 7 | parallel: 8
          |           ^
        8 |
        The keys of parallel are sequence, data, zero_stage, comm, hosts, timeout, launcher_args."
    `);
  });

  test("is not YAML", () => {
    expect(message("model: model\ndata: [a\nmax_steps: 2\n")).toMatchInlineSnapshot(`
      "config.yaml:3:1: Flow sequence in block collection must be sufficiently indented and end with a ]
        1 | model: model
        2 | data: [a
      > 3 | max_steps: 2
          | ^
        4 |"
    `);
    expect(message("model: a\nmodel: b\n")).toMatchInlineSnapshot(`
      "config.yaml:2:1: Map keys must be unique
        1 | model: a
      > 2 | model: b
          | ^
        3 |"
    `);
    expect(message("just words\n")).toMatchInlineSnapshot(`
      "config.yaml:1:1: the file must be a mapping of keys to values
      > 1 | just words
          | ^^^^^^^^^^
        2 |"
    `);
  });

  test("asks for what this version does not have", () => {
    expect(message(`${minimal}parallel: { zero_stage: 2 }\n`)).toMatchInlineSnapshot(`
      "config.yaml:7:25: not available yet: ZeRO
        5 | max_steps: 20
        6 | learning_rate: 1.0e-3
      > 7 | parallel: { zero_stage: 2 }
          |                         ^
        8 |
        This version has parallel.zero_stage: 0 only."
    `);
    expect(message(minimal, "target=cuda")).toMatchInlineSnapshot(`"accepted"`);
    expect(message(minimal, "parallel.zero_stage=3")).toMatch(/^--set parallel\.\S+: not available yet: /);
    expect(message(minimal, "memory.parameter_offload=host")).toMatch(
      /^--set memory\.\S+: not available yet: /,
    );
    expect(
      message(minimal, "memory.tiled_loss=4", "memory.tiled_mlp=7", "memory.tiled_projections=off"),
    ).toBe("accepted");
  });

  test("connects ranks by what their target has", () => {
    expect(message(minimal, "target=cuda", "parallel.comm=nccl")).toBe("accepted");
    expect(message(minimal, "parallel.comm=nccl")).toMatchInlineSnapshot(`
      "--set parallel.comm=nccl: parallel.comm: nccl connects GPUs, and target is cpu
        Set target: cuda, or parallel.comm: local or mpi."
    `);
    expect(message(minimal, "target=cuda", "parallel.comm=mpi")).toMatchInlineSnapshot(`
      "--set parallel.comm=mpi: parallel.comm: mpi connects ranks of target: cpu
        Set parallel.comm: nccl; mpirun may start its ranks too."
    `);
    const remote = ["target=cuda", "parallel.comm=nccl", "parallel.hosts=[a:1]"];
    expect(message(minimal, ...remote)).toMatchInlineSnapshot(`
      "--set parallel.hosts=[a:1]: parallel.hosts is for mpirun
        Leave it out, and start a process for each rank with srun, torchrun or mpirun."
    `);
  });

  test("names files that are not there", () => {
    const text = minimal
      .replace("model: model", "model: someone/a-model")
      .replace("tokens.bin", "tokens.txt");
    expect(message(text)).toMatchInlineSnapshot(`
      "config.yaml:1:8: there is no folder <folder>/someone/a-model
      > 1 | model: someone/a-model
          |        ^^^^^^^^^^^^^^^
        2 | data: tokens.txt
        If it is on the Hugging Face hub: hf download someone/a-model --local-dir someone/a-model

      config.yaml:2:7: there is no file <folder>/tokens.txt
        1 | model: someone/a-model
      > 2 | data: tokens.txt
          |       ^^^^^^^^^^
        3 | output_dir: runs/first"
    `);
    expect(message(minimal, "memory.host_spill=nvme")).toMatch(
      /^--set memory.host_spill=nvme: there is no folder .*nvme\n {2}Make it, or name a folder on a fast local disk.$/,
    );
    expect(message(minimal, "model=my-model.ts")).toMatchInlineSnapshot(`
      "--set model=my-model.ts: my-model.ts is a file; a model is a Hugging Face directory
        A definition is written as model: { source: my-model.ts, config: { ... } }"
    `);
    expect(message(minimal, "data=tokens.csv")).toMatchInlineSnapshot(
      `"--set data=tokens.csv: data is "tokens.csv"; it must be a .bin, .txt, .jsonl or .parquet file"`,
    );
  });

  test("has text but no tokenizer", () => {
    expect(message(minimal, "data=book.txt")).toMatchInlineSnapshot(`
      "--set data=book.txt: book.txt is text, and there is no tokenizer to read it with
        Set tokenizer: to a tokenizer.json or a folder with one, or put tokenizer.json into the model directory."
    `);
  });
});

describe("an option with a mistake", () => {
  test("is pointed at instead of the file", () => {
    expect(message(minimal, "learning_rate=fast")).toMatchInlineSnapshot(
      `"--set learning_rate=fast: learning_rate is "fast"; it must be a number of at least 0"`,
    );
    expect(message(minimal, "parallel.secuence=2")).toMatchInlineSnapshot(`
      "--set parallel.secuence=2: there is no key "parallel.secuence"
        Did you mean parallel.sequence?"
    `);
    expect(message(minimal, "max_steps")).toMatchInlineSnapshot(`
      "--set max_steps: an override is written key=value, or section.key=value
        For example --set max_steps=100 or --set memory.device_limit=16GiB."
    `);
    expect(message(minimal, "data=[1")).toMatchInlineSnapshot(
      `"--set data=[1: the value is not YAML: Flow sequence must end with a ]"`,
    );
    expect(message(minimal, "model.config=3")).toMatchInlineSnapshot(
      `"--set model.config=3: model is {"config":3}; it must be a Hugging Face directory, or { source: my-model.ts, config: { ... } }"`,
    );
  });
});

test("a file that is not there", () => {
  expect(() => loadConfig("none.yaml")).toThrow("there is no such file");
});

describe("gpus", () => {
  test("are shared out to the sequence", () => {
    expect(parseConfig(minimal, "config.yaml", ["gpus=8", "parallel.data=2"]).parallel.sequence).toBe(4);
    expect(parseConfig(minimal, "config.yaml", ["gpus=8", "parallel.sequence=8"]).parallel.sequence).toBe(8);
  });

  test("must fit what parallel says", () => {
    expect(message(minimal, "gpus=3", "parallel.data=2")).toMatchInlineSnapshot(
      `"--set gpus=3: gpus is 3; it must be a multiple of parallel.data, 2"`,
    );
    expect(message(minimal, "gpus=8", "parallel.sequence=4")).toMatchInlineSnapshot(`
      "--set gpus=8: gpus is 8, but parallel.sequence 4 and parallel.data 1 make 4 ranks
        Leave one of them out."
    `);
  });
});
