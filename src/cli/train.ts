/** @file `ithaca train`: compiles if stale, starts the ranks, shows progress. */
import { join } from "node:path";
import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import { duration } from "../launch/progress.ts";
import { train } from "../launch/train.ts";
import { type ConfigOptions, configCommand, type Exit, print, printJson, report } from "./output.ts";

export function trainCommand(exit: Exit): Command {
  return configCommand("train", "train a model; compiles first if something changed").action(
    async (file: string, { set, json }: ConfigOptions) => {
      const begin = performance.now();
      const config = loadConfig(file, set);
      const { compileConfig } = await import("../compile.ts");
      const compiled = await compileConfig(config);
      const { exitCode, last } = await train(compiled, config, {
        report,
        lines: json ? process.stderr : process.stdout,
      });
      exit(exitCode);
      const seconds = (performance.now() - begin) / 1000;
      const final = exitCode === 0 ? join(config.output_dir, "final") : null;
      if (json) {
        printJson({
          exit_code: exitCode,
          output_dir: config.output_dir,
          final,
          seconds,
          last_step: last ?? null,
        });
      } else if (final !== null) {
        print(`trained in ${duration(seconds)}; the model is in ${final}`);
      }
    },
  );
}
