/**
 * @file Times our training step and PyTorch's in turn, on the same weights, tokens and threads.
 *
 *     npx tsx bench/step.ts [--precision fp32,bf16] [--sequence 1024,4096] [--steps 5] [--json]
 *
 * The two processes take turns and change who goes first, so that whatever else the machine does hits both. README.md
 * beside this file says what is measured and how to get the Python that this needs.
 */
import { execFileSync } from "node:child_process";
import { existsSync, renameSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { MemoryAnswer, Peer } from "./peer.ts";
import { median, prepareOurs, type Setting, startOurs, startTorch } from "./sides.ts";

interface Side {
  readonly seconds: number[];
  readonly losses: number[];
  memory: MemoryAnswer;
}

const HERE = fileURLToPath(new URL(".", import.meta.url));

/** The bench model and tokens, written once. */
function ensureModel(directory: string, python: string): void {
  if (existsSync(join(directory, "tokens.bin"))) return;
  const partial = `${directory}.partial`;
  rmSync(partial, { recursive: true, force: true });
  console.error(`writing the bench model to ${directory}`);
  execFileSync(python, [join(HERE, "step.py"), "--init", partial], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  rmSync(directory, { recursive: true, force: true });
  renameSync(partial, directory);
}

/** Warms both up, then steps them in turn; the peaks count from after the warm-up. */
async function race(peers: readonly Peer[], warmup: number, steps: number): Promise<Side[]> {
  const sides = peers.map(
    (): Side => ({ seconds: [], losses: [], memory: { peak_rss_bytes: 0, baseline_rss_bytes: 0 } }),
  );
  for (let i = 0; i < warmup; i++) for (const peer of peers) await peer.step();
  for (const peer of peers) await peer.resetPeak();
  for (let i = 0; i < steps; i++) {
    const turn = peers.map((_, index) => (i % 2 === 0 ? index : peers.length - 1 - index));
    for (const index of turn) {
      const { seconds, loss } = await peers[index]!.step();
      sides[index]!.seconds.push(seconds);
      sides[index]!.losses.push(loss);
    }
  }
  for (const [index, peer] of peers.entries()) sides[index]!.memory = await peer.quit();
  return sides;
}

/** What the model and its training take, without the interpreter and its libraries. */
const ownBytes = (memory: MemoryAnswer) => memory.peak_rss_bytes - memory.baseline_rss_bytes;

function report(setting: Setting, ours: Side | undefined, torch: Side | undefined) {
  const both = ours !== undefined && torch !== undefined;
  return {
    precision: setting.precision,
    sequence_length: setting.sequence,
    threads: setting.threads,
    ours_s: ours ? median(ours.seconds) : null,
    torch_s: torch ? median(torch.seconds) : null,
    speedup: both ? median(torch.seconds) / median(ours.seconds) : null,
    ours_bytes: ours ? ownBytes(ours.memory) : null,
    torch_bytes: torch ? ownBytes(torch.memory) : null,
    memory_share: both ? ownBytes(ours.memory) / ownBytes(torch.memory) : null,
    ours_peak_rss_bytes: ours?.memory.peak_rss_bytes ?? null,
    torch_peak_rss_bytes: torch?.memory.peak_rss_bytes ?? null,
    losses_apart: both
      ? Math.max(...ours.losses.map((loss, i) => Math.abs(loss - torch.losses[i]!) / torch.losses[i]!))
      : null,
  };
}

type Row = ReturnType<typeof report>;

const HEADINGS =
  "precision  tokens   ours s  PyTorch s  speed-up   ours MB (RSS)  PyTorch MB (RSS)   share  losses apart";

function line(row: Row): string {
  const fixed = (value: number | null, digits: number) => (value === null ? "-" : value.toFixed(digits));
  const megabytes = (own: number | null, peak: number | null) =>
    own === null || peak === null ? "-" : `${fixed(own / 1e6, 0)} (${fixed(peak / 1e6, 0)})`;
  return [
    row.precision.padEnd(9),
    String(row.sequence_length).padStart(8),
    fixed(row.ours_s, 3).padStart(9),
    fixed(row.torch_s, 3).padStart(11),
    fixed(row.speedup, 2).padStart(10),
    megabytes(row.ours_bytes, row.ours_peak_rss_bytes).padStart(16),
    megabytes(row.torch_bytes, row.torch_peak_rss_bytes).padStart(18),
    fixed(row.memory_share, 2).padStart(8),
    (row.losses_apart?.toExponential(1) ?? "-").padStart(14),
  ].join("");
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      precision: { type: "string", default: "fp32,bf16" },
      sequence: { type: "string", default: "1024,4096" },
      steps: { type: "string", default: "5" },
      warmup: { type: "string", default: "2" },
      threads: { type: "string", default: String(availableParallelism()) },
      clip: { type: "string" },
      set: { type: "string", multiple: true, default: [] },
      only: { type: "string" },
      work: { type: "string", default: join(tmpdir(), "ithaca-bench") },
      json: { type: "boolean", default: false },
    },
  });
  const python = process.env.ITHACA_ORACLE_PYTHON ?? "python3";
  ensureModel(values.work, python);
  const rows: Row[] = [];
  if (!values.json) console.log(HEADINGS);
  for (const precision of values.precision.split(",")) {
    for (const sequence of values.sequence.split(",").map(Number)) {
      const setting: Setting = {
        ...{ precision, sequence, python, model: values.work, threads: Number(values.threads) },
        clip: values.clip === undefined ? null : Number(values.clip),
        set: values.set,
        ...{ device: "cpu", random: false },
      };
      const peers: { ours?: Peer; torch?: Peer } = {};
      try {
        if (values.only !== "torch") peers.ours = await startOurs(setting, await prepareOurs(setting));
        if (values.only !== "ours") peers.torch = await startTorch(setting);
        const sides = await race(Object.values(peers), Number(values.warmup), Number(values.steps));
        const torch = peers.torch ? sides.at(-1) : undefined;
        const row = report(setting, peers.ours ? sides[0] : undefined, torch);
        rows.push(row);
        if (!values.json) console.log(line(row));
      } finally {
        for (const peer of Object.values(peers)) peer.kill();
      }
    }
  }
  if (values.json) console.log(JSON.stringify({ rows }));
}

try {
  await main();
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  console.error(message);
  if (/No module named|ENOENT/.test(message)) {
    console.error(
      "ITHACA_ORACLE_PYTHON must name a Python with torch and transformers; bench/README.md says how to get one.",
    );
  }
  process.exitCode = 1;
}
