/** @file Local ranks are threads of one process: what kills the process is said of all of them, at once. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { metricsOf, processesOf, startTraining, until } from "../support/command-line.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-deaths-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

test("kill -9 ends the run with the names of its ranks and the last step", { timeout: 120_000 }, async () => {
  const run = startTraining(scratch, "killed", { parallel: { sequence: 2 }, max_steps: 1_000_000 });
  await until("a step", () => metricsOf(run.output).length > 3);
  const begin = performance.now();
  const [pid = 0] = processesOf(run.output);
  process.kill(pid, "SIGKILL");
  expect(await run.exit).toBe(137);
  expect(performance.now() - begin).toBeLessThan(10_000);
  const { step } = metricsOf(run.output).at(-1) ?? { step: 0 };
  expect(run.stderr).toContain(
    `ithaca: ranks 0 to 1, threads of one process, were killed after step ${step}, most likely for want of memory (see dmesg)\n`,
  );
  expect(processesOf(run.output)).toEqual([]);
});
