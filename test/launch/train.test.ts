/** @file Staying with a training process: its progress, its messages, signals and exit codes. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { StepMetrics } from "../../src/launch/follow.ts";
import { duration } from "../../src/launch/progress.ts";
import { runBinary, type Start } from "../../src/launch/run-binary.ts";
import { requireWritable } from "../../src/launch/train.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ithaca-launch-"));
});

afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

/** A training binary in JavaScript: `body` can write metrics with `step(n)` and wait with `await sleep(ms)`. */
function binary(body: string): string {
  const path = join(folder, "train");
  writeFileSync(
    path,
    `#!${process.execPath}
const fs = require("node:fs");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const step = (n) => fs.appendFileSync(${JSON.stringify(join(folder, "metrics.jsonl"))}, JSON.stringify({
  step: n, loss: 7 - n, grad_norm: 1, learning_rate: 1e-3, tokens: 100, step_time_s: 0.5,
  tokens_per_second: 20000, model_tflops: 0.1, device_peak_bytes: 1, host_peak_bytes: 0, process_peak_bytes: 1, bytes_sent: 0 }) + "\\n");
(async () => { ${body} })();
`,
  );
  chmodSync(path, 0o755);
  return path;
}

async function start(body: string, options: { maxSteps?: number; resume?: string; start?: Start } = {}) {
  let lines = "";
  let errors = "";
  const sink = new Writable({
    write(chunk, _, done) {
      lines += chunk;
      done();
    },
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    errors += text;
    return true;
  });
  const config = { output_dir: folder, max_steps: options.maxSteps ?? 3, resume: options.resume ?? null };
  const result = await runBinary(binary(body), "run.json", config, {
    lines: sink,
    ...(options.start && { start: options.start }),
  });
  return { ...result, lines, errors };
}

describe("a run", () => {
  test("shows the first and the last step with the time left", async () => {
    const { exitCode, last, lines } = await start(
      "for (const n of [1, 2, 3]) { step(n); await sleep(150); } process.exit(process.argv[3] === 'run.json' ? 0 : 9)",
    );
    expect(exitCode).toBe(0);
    expect(last).toMatchObject({ step: 3, loss: 4 } satisfies Partial<StepMetrics>);
    expect(lines).toBe(
      "step 1/3  loss 6.0000  20,000 tokens/s  1s left\nstep 3/3  loss 4.0000  20,000 tokens/s  0s left\n",
    );
  });

  test("passes over the lines of an earlier run", async () => {
    writeFileSync(join(folder, "metrics.jsonl"), '{"step":1,"loss":99}\n{"step":2,"loss":99}\n');
    const { last, lines } = await start(
      `await sleep(250); fs.writeFileSync(${JSON.stringify(join(folder, "metrics.jsonl"))}, ""); step(1); step(2); step(3);`,
    );
    expect(lines).not.toContain("99");
    expect(last?.step).toBe(3);
  });

  test("that resumes counts from its snapshot", async () => {
    writeFileSync(join(folder, "metrics.jsonl"), '{"step":1,"loss":99}\n{"step":2,"loss":99}\n');
    const { lines } = await start("step(3)", { resume: join(folder, "snapshots/step-2") });
    expect(lines).toBe("step 3/3  loss 4.0000  20,000 tokens/s  0s left\n");
  });

  test("that fails gives its exit code and what it said", async () => {
    const { exitCode, errors, last } = await start(
      "console.error('ithaca: loss is NaN'); process.exitCode = 1;",
    );
    expect({ exitCode, errors, last }).toEqual({
      exitCode: 1,
      errors: "ithaca: loss is NaN\n",
      last: undefined,
    });
  });

  test("that fails without a word is at least reported", async () => {
    const { errors } = await start("process.exit(3)");
    expect(errors).toBe("ithaca: the training process ended with exit code 3\n");
  });

  test("that is killed says why that may be", async () => {
    const { exitCode, errors } = await start("process.kill(process.pid, 'SIGKILL')");
    expect(exitCode).toBe(137);
    expect(errors).toBe(
      "ithaca: the training process was killed before the first step, most likely for want of memory (see dmesg)\n",
    );
  });

  test("whose ranks are killed names them and the last step", async () => {
    const body = "step(1); step(2); await sleep(250); process.kill(process.pid, 'SIGKILL')";
    const { exitCode, errors } = await start(body, { start: { by: "itself", ranks: 4 } });
    expect(exitCode).toBe(137);
    expect(errors).toBe(
      "ithaca: ranks 0 to 3, threads of one process, were killed after step 2, most likely for want of memory (see dmesg)\n",
    );
  });

  test("that is one process of a job leaves progress to the first one", async () => {
    const job = { launcher: "mpirun", rank: 1, ranks: 2, isOneMachine: true } as const;
    const body = "step(1); await sleep(150); process.kill(process.pid, 'SIGSEGV'); await sleep(1000)";
    const { lines, errors, last } = await start(body, { start: { by: "job", job } });
    expect({ lines, errors, last }).toEqual({
      lines: "",
      errors: "ithaca: rank 1 was ended by SIGSEGV\n",
      last: undefined,
    });
  });

  test("gets Ctrl-C once and ends in its own time", async () => {
    const log = join(folder, "signals");
    const interrupt = setTimeout(() => process.emit("SIGINT", "SIGINT"), 400);
    const { exitCode } = await start(`
      process.on("SIGINT", () => {
        fs.appendFileSync(${JSON.stringify(log)}, "SIGINT\\n");
        setTimeout(() => process.exit(130), 300);
      });
      await sleep(10000);
    `);
    clearTimeout(interrupt);
    expect(exitCode).toBe(130);
    expect(readFileSync(log, "utf8")).toBe("SIGINT\n");
  });
});

describe("output_dir", () => {
  test("is made", () => {
    requireWritable(join(folder, "a/b"));
    requireWritable(join(folder, "a/b"));
  });

  test("can't be a file or inside one", () => {
    writeFileSync(join(folder, "file"), "");
    expect(() => requireWritable(join(folder, "file"))).toThrow("there is a file of that name");
    expect(() => requireWritable(join(folder, "file/runs"))).toThrow("a part of the path is a file");
  });

  test.skipIf(process.getuid?.() === 0)("can't be where this user may not write", () => {
    mkdirSync(join(folder, "locked"), { mode: 0o555 });
    expect(() => requireWritable(join(folder, "locked/runs"))).toThrow("permission denied");
  });
});

test("durations", () => {
  expect([5, 65, 3725, 0.4, 59.6].map(duration)).toEqual(["5s", "1m 05s", "1h 02m", "0s", "1m 00s"]);
});
