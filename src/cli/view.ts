/** @file `ithaca view`: one compilation as a page for the browser, with its graph, passes, memory and schedule. */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { type Config, loadConfig } from "../config/load.ts";
import type { Forecast } from "../forecast.ts";
import { UserError } from "../ir/error.ts";
import { machineOf } from "../plan/machines.ts";
import type { ViewData, ViewSpan } from "../viewer/view-data.ts";
import { lineDiff } from "./diff.ts";
import { inspect } from "./inspect.ts";
import { type ConfigOptions, configCommand, print, printJson } from "./output.ts";

interface ViewOptions extends ConfigOptions {
  readonly out?: string;
  readonly trace?: string;
}

export function viewCommand(): Command {
  return configCommand("view", "write a page that shows graph, passes, memory and schedule")
    .option("--out <file>", "the page; output_dir/view.html unless given")
    .option("--trace <file>", "a trace that `train --profile` wrote, to stand beside the prediction")
    .action(async (file: string, options: ViewOptions) => {
      const { out, trace } = options;
      const config = loadConfig(file, options.set, { planning: true });
      const { forecast } = await import("../forecast.ts");
      const machine = config.target === "cuda" ? (machineOf(config.machine ?? "h100-80gb") ?? null) : null;
      const made = await forecast(config, machine);
      const inspected = inspect(made.planned, options);
      const data = await collected(config, made, trace === undefined ? [] : readTrace(trace));
      const { pageOf } = await import("../viewer/page.ts");
      const path = resolve(out ?? join(config.output_dir, "view.html"));
      writeFileSync(path, pageOf(data));
      if (options.json) printJson({ page: path, ...inspected });
      else print(`${path} opens in a browser`);
    });
}

async function collected(config: Config, made: Forecast, trace: readonly ViewSpan[]): Promise<ViewData> {
  const { sizeOf, viewData } = await import("../viewer/collect.ts");
  const { print: printGraph } = await import("../ir/print.ts");
  const { passSummary } = await import("../passes/pipeline.ts");
  const { stages, plan, graph } = made.planned;
  const texts = stages.map((stage) => printGraph(stage.graph));
  const name = graph.name;
  return viewData({
    title: name,
    about: `${sizeOf(graph)} weights, ${made.ranks === 1 ? "one rank" : `${made.ranks} ranks`}, ${config.precision}, ${config.sequence_length} tokens, ${config.target}`,
    stages: stages.map(({ pass, milliseconds, graph: own }, i) => ({
      pass,
      milliseconds,
      graph: own,
      summary: passSummary(pass),
      diff: i === 0 || own === stages[i - 1].graph ? [] : diffLines(texts[i - 1], texts[i]),
    })),
    plan,
    timeline: made.timeline,
    machine: made.machine.name,
    trace,
  });
}

function diffLines(before: string, after: string): string[] {
  return lineDiff(before, after, "before", "after").trimEnd().split("\n").slice(2);
}

/** Complete events of a Chrome trace: `pid` is the rank, `tid` the lane, times in microseconds. */
function readTrace(path: string): ViewSpan[] {
  try {
    const { traceEvents } = JSON.parse(readFileSync(path, "utf8")) as {
      traceEvents: { ph: string; pid: number; cat?: string; name: string; ts: number; dur: number }[];
    };
    return traceEvents
      .filter(({ ph }) => ph === "X")
      .map(({ pid, cat, name, ts, dur }) => ({
        rank: pid,
        lane: cat ?? "compute",
        name,
        begin: ts / 1e6,
        end: (ts + dur) / 1e6,
      }));
  } catch (error) {
    throw new UserError(`it is no trace: ${(error as Error).message}`, {
      location: path,
      remedy: "A trace is written by ithaca train --profile.",
    });
  }
}
