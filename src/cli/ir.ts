/** @file `ithaca ir`: the IR after any pass, of the whole model or of a part, or what a pass changed; as text, JSON or HTML. */
import { writeFileSync } from "node:fs";
import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import { parseCount } from "../config/values.ts";
import { UserError } from "../ir/error.ts";
import type { Graph } from "../ir/graph.ts";
import { nearest } from "../ir/nearest.ts";
import { print as printGraph } from "../ir/print.ts";
import { excerpt, type Wanted } from "../plan/excerpt.ts";
import { lineDiff } from "./diff.ts";
import { inspect } from "./inspect.ts";
import { type ConfigOptions, configCommand, print, report } from "./output.ts";

interface IrOptions extends ConfigOptions {
  readonly after?: string;
  readonly diff: boolean;
  readonly layer?: string;
  readonly module?: string;
  readonly html: boolean;
  readonly out?: string;
}

/** What is shown: a graph, or the plan, or a difference between two of them. */
export interface Shown {
  readonly pass: string;
  readonly text: string;
  /** Of a graph that is shown as it is. */
  readonly graph?: Graph;
}

type Stage = Pick<Shown, "pass"> & (Pick<Shown, "text"> | { readonly graph: Graph });

export function irCommand(): Command {
  return configCommand("ir", "print the model in the compiler's terms")
    .option(
      "--after <pass>",
      'the state after this pass; "input" is before all of them, "plan" the end; input unless given',
    )
    .option("--diff", "what the pass changed, or without --after what every pass changed", false)
    .option("--layer <n>", "one layer only, with the values that it takes and gives")
    .option("--module <path>", "one module only: mlp, model.layers.3.mlp, or lines such as llama.ts:90-104")
    .option("--html", "as a page for the browser, values linked to where they are made", false)
    .option("--out <file>", "write to this file instead of standard output")
    .action(async (file: string, options: IrOptions) => {
      const { after, diff } = options;
      const wanted = wantedOf(options);
      const config = loadConfig(file, options.set);
      const { planConfig } = await import("../compile.ts");
      const isWhole = after === "plan" || (after === undefined && diff);
      const planned = await planConfig(config, isWhole ? {} : { stopAfter: after ?? "input" });
      const inspected = inspect(planned, options);
      const { printPlan } = await import("../ir/plan.ts");
      const plan = planned.plan ? [{ pass: "plan", text: printPlan(planned.plan) }] : [];
      const stages = [...planned.stages, ...plan];
      const shown = select(stages, after, diff, (stage) => shownOf(stage, wanted));
      if (options.json) {
        const { toJson } = await import("../ir/json.ts");
        const shownStages = shown.map(({ graph, ...own }) => ({
          ...own,
          ...(graph && { graph: toJson(graph) }),
        }));
        write(options.out, JSON.stringify({ stages: shownStages, ...inspected }));
      } else if (options.html) {
        const { irPage } = await import("../viewer/ir-page.ts");
        write(options.out, irPage(planned.graph.name, shown));
      } else write(options.out, shown.map(({ text }) => text).join(""));
    });
}

function write(file: string | undefined, text: string): void {
  if (file === undefined) print(text);
  else {
    writeFileSync(file, text.endsWith("\n") ? text : `${text}\n`);
    report(`${file} is written`);
  }
}

function wantedOf({ layer, module, after }: IrOptions): Wanted | null {
  if (layer === undefined && module === undefined) return null;
  if (after === "plan") {
    throw new UserError("the plan is shown as a whole", {
      location: layer === undefined ? "--module" : "--layer",
      remedy: "Its steps name their layer; or leave --after plan out.",
    });
  }
  const number = layer === undefined ? undefined : parseCount(layer);
  if (layer !== undefined && number === undefined)
    throw new UserError(`--layer is ${layer}; it must be a number`, { location: "--layer" });
  return { ...(number !== undefined && { layer: number }), ...(module !== undefined && { module }) };
}

function shownOf(stage: Stage, wanted: Wanted | null): Shown {
  const { pass } = stage;
  if ("text" in stage) return { pass, text: stage.text };
  const graph = wanted ? excerpt(stage.graph, wanted) : stage.graph;
  return { pass, graph, text: printGraph(graph) };
}

/** The stages to print, as they are or as differences to the one before. */
export function select<S extends Pick<Shown, "pass">>(
  stages: readonly S[],
  after: string | undefined,
  diff: boolean,
  show: (stage: S) => Shown,
): readonly Shown[] {
  const names = stages.map(({ pass }) => pass);
  const index = after === undefined ? 0 : names.indexOf(after);
  if (index < 0) {
    const near = nearest(after as string, names);
    throw new UserError(`there is no pass "${after}" on the way of this model`, {
      location: "--after",
      remedy: near === undefined ? `The passes are ${names.join(", ")}.` : `Did you mean ${near}?`,
    });
  }
  if (diff && after === "input") {
    throw new UserError("the input is before all passes: there is nothing that changed it", {
      location: "--after input --diff",
      remedy: "Name a pass, or leave --after out to see what every pass changed.",
    });
  }
  // The plan is another notation: a difference to it would be all of both.
  if (!diff || after === "plan") return stages.slice(index, index + 1).map(show);
  const graphs = stages.filter(({ pass }) => pass !== "plan");
  const wanted = after === undefined ? graphs.slice(1) : graphs.slice(Math.max(index, 1), index + 1);
  return wanted.map((stage) => {
    const before = graphs[graphs.indexOf(stage) - 1];
    const [old, own] = [show(before), show(stage)];
    const text = lineDiff(old.text, own.text, `after ${before.pass}`, `after ${stage.pass}`);
    return { pass: stage.pass, text };
  });
}
