/**
 * @file Our side of the bench: steps a compiled program, one optimizer step for each line read.
 *
 *     node --import tsx bench/ours.ts --program program.so --model DIR --threads 2 --learning-rate 1e-4
 *
 * DIR has model.safetensors (one file, F32) and tokens.bin (uint32). The lines and answers are step.py's. With --random the
 * weights are drawn, on whatever device the program runs.
 */
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { openProgram, type Program } from "../src/launch/program.ts";

const IGNORED = -100;

/** A size from /proc/self/status, in bytes. */
function status(field: string): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync("/proc/self/status", "utf8"));
  if (!match) throw new Error(`/proc/self/status has no ${field}`);
  return Number(match[1]) * 1024;
}

function floats(program: Program, name: string): Float32Array {
  const view = program.view(name);
  if (!(view instanceof Float32Array)) throw new Error(`${name} is not f32`);
  return view;
}

function integers(program: Program, name: string): Int32Array {
  const view = program.view(name);
  if (!(view instanceof Int32Array)) throw new Error(`${name} is not i32`);
  return view;
}

/** Reads the parameters straight into the program's memory: no second copy of them ever exists. */
function loadWeights(program: Program, path: string): void {
  const file = openSync(path, "r");
  const length = Buffer.alloc(8);
  readSync(file, length, 0, 8, 0);
  const headerBytes = Number(length.readBigUInt64LE());
  const header = Buffer.alloc(headerBytes);
  readSync(file, header, 0, headerBytes, 8);
  const tensors: Record<string, { dtype: string; data_offsets: [number, number] }> = JSON.parse(
    header.toString(),
  );
  for (const { name, role } of program.tensors) {
    if (role !== "parameter") continue;
    const entry = tensors[name];
    const view = floats(program, name);
    if (!entry) throw new Error(`${path} has no ${name}`);
    const [begin, end] = entry.data_offsets;
    if (entry.dtype !== "F32" || end - begin !== view.byteLength) {
      throw new Error(
        `${name}: ${entry.dtype} of ${end - begin} bytes in ${path}, f32 of ${view.byteLength} wanted`,
      );
    }
    // readSync refuses more than 2 GiB at once, which no tensor of the bench model comes near.
    readSync(file, view, 0, view.byteLength, 8 + headerBytes + begin);
  }
  closeSync(file);
}

class Training {
  private readonly program: Program;
  private readonly tokens: Uint32Array;
  private at = 0;
  private steps = 0;

  constructor(program: Program, tokens: Uint32Array, learningRate: number) {
    this.program = program;
    this.tokens = tokens;
    floats(program, "learning_rate")[0] = learningRate;
  }

  async step(): Promise<{ seconds: number; loss: number }> {
    const ids = integers(this.program, "input_ids");
    const labels = integers(this.program, "labels");
    if (this.at + ids.length > this.tokens.length) this.at = 0;
    ids.set(this.tokens.subarray(this.at, this.at + ids.length));
    labels.set(ids.subarray(1));
    labels[labels.length - 1] = IGNORED;
    integers(this.program, "position_ids").forEach((_, index, positions) => {
      positions[index] = index;
    });
    integers(this.program, "segments").fill(0);
    this.at += ids.length;
    this.steps += 1;
    integers(this.program, "step")[0] = this.steps;
    const begin = performance.now();
    await this.program.step();
    return { seconds: (performance.now() - begin) / 1000, loss: floats(this.program, "loss")[0]! };
  }
}

function print(answer: object): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      program: { type: "string" },
      model: { type: "string" },
      threads: { type: "string", default: "1" },
      "learning-rate": { type: "string", default: "1e-4" },
      random: { type: "boolean", default: false },
    },
  });
  if (!values.program || !values.model) throw new Error("ours.ts: --program FILE and --model DIR are needed");
  const tokenBytes = readFileSync(join(values.model, "tokens.bin"));
  const tokens = new Uint32Array(tokenBytes.buffer, tokenBytes.byteOffset, tokenBytes.length / 4);
  const baseline = status("VmRSS");
  const program = await openProgram(values.program, { threads: Number(values.threads) });
  if (values.random) await program.load({ seed: 0 });
  else loadWeights(program, join(values.model, "model.safetensors"));
  const training = new Training(program, tokens, Number(values["learning-rate"]));
  print({ ready: true });
  for await (const line of createInterface({ input: process.stdin })) {
    const command = line.trim();
    if (command === "step") {
      print(await training.step());
    } else if (command === "reset-peak") {
      writeFileSync("/proc/self/clear_refs", "5");
      print({ reset: true });
    } else if (command === "quit") {
      print({
        peak_rss_bytes: status("VmHWM"),
        anonymous_rss_bytes: status("RssAnon"),
        baseline_rss_bytes: baseline,
      });
      program.close();
      return;
    } else {
      print({ error: `"${command}" is none of step, reset-peak, quit` });
    }
  }
}

await main();
