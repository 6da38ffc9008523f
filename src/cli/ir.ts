/** @file `ithaca ir`: the IR as text, after any pass, or what a pass changed. */
import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import { UserError } from "../ir/error.ts";
import { nearest } from "../ir/nearest.ts";
import { lineDiff } from "./diff.ts";
import { type ConfigOptions, configCommand, print, printJson } from "./output.ts";

interface IrOptions extends ConfigOptions {
  readonly after?: string;
  readonly diff: boolean;
}

interface Stage {
  readonly pass: string;
  readonly text: string;
}

export function irCommand(): Command {
  return configCommand("ir", "print the model in the compiler's terms")
    .option(
      "--after <pass>",
      'the state after this pass; "input" is before all of them, "plan" the end; input unless given',
    )
    .option("--diff", "what the pass changed, or without --after what every pass changed", false)
    .action(async (file: string, { set, json, after, diff }: IrOptions) => {
      const config = loadConfig(file, set);
      const { compileConfig } = await import("../compile.ts");
      const isPass = after !== undefined && after !== "plan" && after !== "input";
      const { stages, planText } = await compileConfig(config, isPass ? { stopAfter: after } : {});
      const shown = select([...stages, { pass: "plan", text: planText }], after, diff);
      if (json) printJson({ stages: shown.map(({ pass, text }) => ({ pass, text })) });
      else for (const { text } of shown) print(text);
    });
}

/** The stages to print, as they are or as differences to the one before. */
export function select(stages: readonly Stage[], after: string | undefined, diff: boolean): readonly Stage[] {
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
  if (!diff || after === "plan") return stages.slice(index, index + 1);
  const graphs = stages.slice(0, -1);
  const wanted = after === undefined ? graphs.slice(1) : graphs.slice(Math.max(index, 1), index + 1);
  return wanted.map(({ pass, text }) => {
    const before = graphs[names.indexOf(pass) - 1] as Stage;
    return { pass, text: lineDiff(before.text, text, `after ${before.pass}`, `after ${pass}`) };
  });
}
