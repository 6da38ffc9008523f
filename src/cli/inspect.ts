/** @file What every command that compiles can tell of its passes: a file each, a table, a check that numbers were kept. */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Choice } from "../choose.ts";
import { printPlan } from "../ir/plan.ts";
import { numbersKept } from "../passes/check.ts";
import { runPipeline } from "../passes/run.ts";
import { printStats, type StageStats, statsOf } from "../passes/stats.ts";
import { dumper } from "./dump.ts";
import { type PassesOptions, report } from "./output.ts";

/**
 * Does what --dump, --stats and --check ask about the passes that were chosen. What it returns belongs into the command's
 * JSON. For --check they run once more, each verified and compared; a PassError names the first that broke something.
 */
export function inspect(
  { stages, entries, plan }: Pick<Choice, "stages" | "entries" | "plan">,
  { dump, stats, check, json }: PassesOptions,
): { readonly passes?: readonly StageStats[] } {
  if (dump !== undefined) {
    stages.forEach(dumper(resolve(dump)));
    if (plan) writeFileSync(join(dump, "plan.txt"), printPlan(plan));
  }
  if (stats && !json) report(printStats(stages).trimEnd());
  if (check) runPipeline(stages[0].graph, entries, { compare: numbersKept({ report }) });
  return stats ? { passes: statsOf(stages) } : {};
}
