/** @file Speed, memory and the longest sequence beside PyTorch on a GPU; scripts/test-gpu.ts runs it and writes its report. */
import type { Budget } from "./gpu/clock.ts";
import { findGpu, type Gpu } from "./gpu/machine.ts";
import type { Longest, Report, Result } from "./gpu/report.ts";
import {
  limitOf,
  longest,
  prepareAll,
  settingOf,
  shapes,
  timeAlone,
  timeRow,
  writeShape,
} from "./gpu/speed.ts";
import { prepareOurs, startOurs, startTorch } from "./sides.ts";

/** All rows that the budget has time for; `folder` takes the models and programs. */
export async function measureSpeed(
  gpu: Gpu,
  budget: Budget,
  folder: string,
  python: string,
): Promise<Pick<Report, "rows" | "longest">> {
  const limit = limitOf((await findGpu()) ?? gpu);
  const settings = shapes.map(({ shape, tokens }) =>
    settingOf(writeShape(folder, shape), python, tokens, limit),
  );
  const programs = await prepareAll(settings);
  const rows = [];
  for (const [at, shape] of shapes.entries()) {
    rows.push(await timeRow(shape, settings[at], programs[at], budget));
  }
  const model = settings[0].model;
  const once = { steps: 1, warmup: 0, how: "", plannedBytes: null };
  const late: Result = { why: "no time was left to try" };
  const torch = (tokens: number): Promise<Result> =>
    budget.left() < 20
      ? Promise.resolve(late)
      : timeAlone(
          () => startTorch(settingOf(model, python, tokens, limit), ["--checkpointing"]),
          budget,
          once,
        );
  const ours = async (tokens: number): Promise<Result> => {
    if (budget.left() < 20) return late;
    const setting = settingOf(model, python, tokens, limit);
    const program = await prepareOurs(setting).catch(() => ({ why: "out of memory" }));
    return "why" in program ? program : timeAlone(() => startOurs(setting, program), budget, once);
  };
  const found: Longest[] = [await longest("PyTorch", 32768, torch), await longest("Ithaca", 131072, ours)];
  return { rows, longest: found };
}
