/**
 * @file `npm run test:gpu`: builds, checks and measures on this machine's GPU within eight minutes, and writes
 * bench/results/DATE-gpu.md and .json. Without a GPU it says so and ends with 0.
 *
 *     npm run test:gpu [-- --minutes 8] [--only checks|speed] [--output FOLDER]
 *
 * ITHACA_ORACLE_PYTHON names a Python with PyTorch for CUDA and transformers. Exits with 1 where a check failed.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { agreement, agreementSetting, ourLosses, torchLosses } from "../bench/gpu/agreement.ts";
import { buildChecks, gpuTests, runProgram, sanitize } from "../bench/gpu/checks.ts";
import { Budget, type Finding, runCheck } from "../bench/gpu/clock.ts";
import { describeMachine, findGpu, type Gpu, sheetOf } from "../bench/gpu/machine.ts";
import { type Check, isMeasured, markdown, type Report } from "../bench/gpu/report.ts";
import { timeAlone } from "../bench/gpu/speed.ts";
import { measureSpeed } from "../bench/gpu.ts";
import { prepareOurs, startOurs } from "../bench/sides.ts";
import { requireCuda } from "../src/codegen/cuda/toolchain.ts";
import { packageRoot } from "../src/codegen/toolchain.ts";

const STEPS = 20;
const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "8" },
    only: { type: "string" },
    output: { type: "string", default: join(packageRoot, "bench/results") },
  },
});
const python = process.env.ITHACA_ORACLE_PYTHON ?? "python3";

/** Checks one after the other: they share the GPU. */
async function runChecks(gpu: Gpu, budget: Budget, folder: string, model: string): Promise<Check[]> {
  const checks: Check[] = [];
  const check = async (name: string, least: number, work: () => Promise<Finding>) => {
    const result = await runCheck(budget, name, least, work);
    checks.push(result);
    const [first] = result.detail.split("\n");
    console.log(`${result.outcome.padEnd(8)} ${name} (${result.seconds.toFixed(0)} s): ${first}`);
  };
  let programs: string[] = [];
  await check("build", 30, async () => {
    programs = await budget.within(150, buildChecks(await requireCuda()));
    return { outcome: "passed", detail: `${programs.length} programs` };
  });
  const program = (at: number, lines: number) => async (): Promise<Finding> =>
    programs[at] === undefined
      ? { outcome: "not run", detail: "was not built" }
      : runProgram(budget, 90, programs[at], [], lines);
  await check("our kernels beside the CPU's", 10, program(0, 1));
  await check("products and attention of cuBLASLt and cuDNN", 10, program(2, 20));
  await check("speed of our kernels", 10, program(1, 60));
  await check("every op beside its definition; goldens of PyTorch", 30, () => gpuTests(budget, 150, folder));
  for (const precision of ["fp32", "bf16"] as const) {
    const setting = agreementSetting(model, python, precision, "cuda", availableParallelism());
    let expected: number[] = [];
    for (const ranks of [1, 2, 4]) {
      const shared = ranks === 1 ? "one rank" : `a sequence shared by ${ranks} ranks on one GPU`;
      await check(`${STEPS} steps beside PyTorch, ${precision}, ${shared}`, 15, async () => {
        if (expected.length === 0) expected = await budget.within(60, torchLosses(setting, STEPS));
        const own = await budget.within(60, ourLosses(setting, STEPS, ranks));
        return agreement(precision, own, expected);
      });
    }
  }
  const gpus = 2 ** Math.floor(Math.log2(Math.min(gpu.count, 4)));
  await check(`${STEPS} steps beside PyTorch, bf16, by NCCL`, 15, async () => {
    if (gpus < 2)
      return { outcome: "not run", detail: "NCCL gives each rank a GPU of its own: there is one" };
    if (!(await requireCuda()).nccl)
      return { outcome: "not run", detail: "NCCL isn't found; ithaca doctor says how to get it" };
    const setting = agreementSetting(model, python, "bf16", "cuda", availableParallelism());
    const expected = await budget.within(60, torchLosses(setting, STEPS));
    return agreement("bf16", await budget.within(90, ourLosses(setting, STEPS, gpus, "nccl")), expected);
  });
  await check("compute-sanitizer on two short steps", 20, async () =>
    sanitize(budget, 90, folder, await requireCuda()),
  );
  return checks;
}

/** Memory in use beside the arena: what a small program has in use, less its plan. */
async function contextBytes(budget: Budget, model: string): Promise<number | null> {
  const setting = agreementSetting(model, python, "bf16", "cuda", 1);
  const prepared = await prepareOurs(setting);
  const counts = { steps: 2, warmup: 1, how: "", plannedBytes: prepared.deviceBytes };
  const result = await timeAlone(() => startOurs(setting, prepared), budget, counts);
  return isMeasured(result) ? result.usedBytes - prepared.deviceBytes : null;
}

async function main(gpu: Gpu): Promise<boolean> {
  const budget = new Budget(60 * Number(values.minutes));
  const folder = mkdtempSync(join(tmpdir(), "ithaca-gpu-"));
  try {
    const model = join(folder, "model");
    try {
      execFileSync(python, [join(packageRoot, "bench/step.py"), "--init", model], { stdio: "ignore" });
    } catch {
      console.error(`${python} lacks torch or transformers: bench/README.md says how to get them`);
      return false;
    }
    const checks = values.only === "speed" ? [] : await runChecks(gpu, budget, folder, model);
    const context = values.only === "checks" ? null : await contextBytes(budget, model).catch(() => null);
    const speed =
      values.only === "checks" ? { rows: [], longest: [] } : await measureSpeed(gpu, budget, folder, python);
    const report: Report = {
      machine: await describeMachine(gpu, python),
      peakFlops: sheetOf(gpu.name)?.peakFlops.bf16 ?? null,
      contextBytes: context,
      checks,
      ...speed,
    };
    mkdirSync(values.output, { recursive: true });
    const path = join(values.output, `${report.machine.date.slice(0, 10)}-gpu`);
    writeFileSync(`${path}.json`, `${JSON.stringify(report, null, 2)}\n`);
    writeFileSync(`${path}.md`, markdown(report));
    console.log(`${path}.md and .json`);
    return checks.every(({ outcome }) => outcome !== "failed");
  } finally {
    if (existsSync(folder)) rmSync(folder, { recursive: true, force: true });
  }
}

const gpu = await findGpu();
if (gpu === undefined) {
  console.log("no GPU here (nvidia-smi is absent or lists none): nothing was checked or measured");
} else {
  // What a check that was late left behind must not keep the process.
  process.exit((await main(gpu)) ? 0 : 1);
}
