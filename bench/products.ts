/**
 * @file Our matrix products beside oneDNN's, on the shapes of a Llama's step: forward, and the gradients of values and of
 * weights.
 *
 *     npx tsx bench/products.ts [--tokens 4096] [--hidden 512] [--wide 1536] [--vocabulary 32000] [--rounds 7] [--threads 1]
 *
 * Needs oneDNN (Debian: libdnnl-dev), which nothing else here does. The two are called in turn; speeds are medians.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { buildExecutables } from "../src/codegen/build.ts";
import { includeDirs, packageRoot, runtimeFlags, runtimeRoot } from "../src/codegen/toolchain.ts";

const { values: args } = parseArgs({
  options: {
    tokens: { type: "string", default: "4096" },
    hidden: { type: "string", default: "512" },
    wide: { type: "string", default: "1536" },
    vocabulary: { type: "string", default: "32000" },
    rounds: { type: "string", default: "7" },
    threads: { type: "string", default: "1" },
  },
});

const source = join(packageRoot, "bench/products.cc");
const units = [{ path: source, flags: runtimeFlags, includeDirs: [...includeDirs, runtimeRoot] }];
const [program] = await buildExecutables([{ name: "products", units, linkFlags: ["-ldnnl"] }], console.error);

interface Line {
  readonly from: string;
  readonly to: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly form: string;
  readonly ours: number;
  readonly oneDNN: number;
}

const sizes = [args.tokens, args.hidden, args.wide, args.vocabulary, args.rounds];
const env = { ...process.env, OMP_NUM_THREADS: args.threads };
const run = spawn(program as string, sizes, { env, stdio: ["ignore", "pipe", "inherit"] });
const ratios: number[] = [];
console.log("type          M x     N x     K        ours    oneDNN  ratio");
for await (const text of createInterface(run.stdout)) {
  const { from, to, M, N, K, form, ours, oneDNN } = JSON.parse(text) as Line;
  const shape = [M, N, K].map((size) => String(size).padStart(6)).join(" x");
  const speeds = [ours, oneDNN].map((gflops) => `${gflops.toFixed(1).padStart(7)}`).join("   ");
  ratios.push(ours / oneDNN);
  console.log(`${`${from}-${to}`.padEnd(9)} ${shape} ${form}  ${speeds}   ${(ours / oneDNN).toFixed(2)}`);
}
const mean = Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length);
console.log(`speeds in GFLOP/s on ${args.threads} threads; geometric mean of the ratios ${mean.toFixed(2)}`);
