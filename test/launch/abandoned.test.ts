/** @file A launcher that waits for the dead is noticed, and its run ends. */
import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, afterEach, expect, test, vi } from "vitest";
import { hasOnlyDeadChildren } from "../../src/launch/abandoned.ts";
import { runBinary } from "../../src/launch/run-binary.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-abandoned-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

/** Starts a child that ends, and becomes a program that never asks for it; before that, the shell would. */
const abandons = "sh -c 'sleep 1; exit 7' & exec sleep 600";

test("only a process whose children have all ended unnoticed is abandoned", async () => {
  const alone = spawn("sleep", ["600"]);
  const busy = spawn("bash", ["-c", "sleep 600 & wait"]);
  const abandoned = spawn("bash", ["-c", abandons]);
  await vi.waitFor(() => expect(hasOnlyDeadChildren(abandoned.pid as number)).toBe(true), 20_000);
  expect([alone, busy].map(({ pid }) => hasOnlyDeadChildren(pid as number))).toEqual([false, false]);
  for (const process of [alone, busy, abandoned]) process.kill("SIGKILL");
});

test("a run under an mpirun that waits for the dead ends with what a rank said", {
  timeout: 60_000,
}, async () => {
  const mpirun = join(scratch, "mpirun");
  writeFileSync(mpirun, `#!/bin/bash\necho "ithaca: rank 1 failed: it is a test" >&2\n${abandons}\n`);
  chmodSync(mpirun, 0o755);
  vi.stubEnv("PATH", `${scratch}:${process.env.PATH}`);
  let said = "";
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    said += text;
    return true;
  });
  const start = { by: "mpirun", job: { ranks: 2, hosts: null, args: [] } } as const;
  const config = { output_dir: scratch, max_steps: 1, resume: null };
  const result = await runBinary("train", "run.json", config, { lines: new PassThrough().resume(), start });
  expect(result.exitCode).toBe(1);
  expect(said).toBe("ithaca: rank 1 failed: it is a test\n");
});
