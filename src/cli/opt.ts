/** @file `ithaca opt`: runs passes on IR text from a file or standard input, and prints text, as mlir-opt does. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Command } from "commander";
import { UserError } from "../ir/error.ts";
import { fromJson, toJson } from "../ir/json.ts";
import { parse } from "../ir/parse.ts";
import { print as printGraph } from "../ir/print.ts";
import { printComplaint, verify } from "../ir/verify.ts";
import { builtinPasses, type KnownPass, parsePasses, withPasses } from "../passes/arrange.ts";
import { numbersKept } from "../passes/check.ts";
import { heldBy, runPipeline } from "../passes/run.ts";
import { printStats, statsOf } from "../passes/stats.ts";
import { lineDiff } from "./diff.ts";
import { dumper } from "./dump.ts";
import { type PassesOptions, print, printJson, report, withPassesOptions } from "./output.ts";

interface OptOptions extends PassesOptions {
  readonly passes: string;
  readonly load: readonly string[];
  readonly diff: boolean;
}

export function optCommand(): Command {
  return withPassesOptions(new Command("opt"))
    .description("run passes on IR text")
    .argument("<file>", 'a file with a graph as "ithaca ir" prints it, text or JSON; - is standard input')
    .requiredOption("-p, --passes <list>", 'what to run, in order: "ulysses axis=sp; tile-loss tiles=8"')
    .option(
      "-l, --load <file>",
      "a TypeScript file with passes or ops of your own; may be repeated",
      (file: string, all: readonly string[]) => [...all, file],
      [] as readonly string[],
    )
    .option("--diff", "print what the passes changed instead of the graph", false)
    .action(async (file: string, options: OptOptions) => {
      const known = withPasses(builtinPasses(), await loaded(options.load));
      const entries = parsePasses(options.passes, known);
      const graph = readGraph(file);
      const write = options.dump === undefined ? undefined : dumper(resolve(options.dump));
      const stages = runPipeline(graph, entries, {
        established: heldBy(graph, entries),
        ...(options.check && { compare: numbersKept({ report }) }),
        ...(write && { onStage: write }),
      });
      const last = stages[stages.length - 1].graph;
      const text = printGraph(last);
      if (options.stats && !options.json) report(printStats(stages).trimEnd());
      if (options.json) printJson({ text, graph: toJson(last), passes: statsOf(stages) });
      else print(options.diff ? lineDiff(printGraph(graph), text, file, "after the passes") : text);
    });
}

/**
 * The passes of the user's files; their ops are known from then on. What reads TypeScript takes half a second to load, so
 * only where there are any.
 */
async function loaded(files: readonly string[]): Promise<KnownPass[]> {
  if (files.length === 0) return [];
  const { loadPasses } = await import("../extend/passes.ts");
  return files.flatMap((file) => loadPasses(file, "--load", { orOps: true }));
}

function readJson(text: string, location: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(`it is no JSON: ${(error as Error).message}`, { location });
  }
}

/** The graph of a file. What doesn't verify is the user's to mend: no pass is to blame. */
function readGraph(file: string) {
  const name = file === "-" ? "standard input" : file;
  let text: string;
  try {
    text = readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new UserError(code === "ENOENT" ? "there is no such file" : `can't be read: ${message}`, {
      location: name,
      remedy: "Give a file with a graph: ithaca ir config.yaml --after shard > graph.ir makes one.",
    });
  }
  const graph = text.trimStart().startsWith("{") ? fromJson(readJson(text, name), name) : parse(text, name);
  const [first, ...others] = verify(graph);
  if (first) {
    throw new UserError(
      `${printComplaint(first)}${others.length > 0 ? ` (and ${others.length} more)` : ""}`,
      {
        location: name,
        remedy: `The graph reads but does not verify: it must be "${first.property}".`,
      },
    );
  }
  return graph;
}
