/** @file `ithaca compile`: sources, binary, plan and dumps, without training. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { buildProgram } from "../codegen/build.ts";
import { loadConfig } from "../config/load.ts";
import { requireWritable } from "../launch/train.ts";
import { inspect } from "./inspect.ts";
import { type ConfigOptions, configCommand, print, printJson, report } from "./output.ts";

export function compileCommand(): Command {
  return configCommand("compile", "write sources, binary and plan to output_dir/build").action(
    async (file: string, options: ConfigOptions) => {
      const config = loadConfig(file, options.set);
      const { compileConfig } = await import("../compile.ts");
      const compiled = await compileConfig(config);
      const inspected = inspect(compiled, options);
      const build = join(config.output_dir, "build");
      requireWritable(config.output_dir);
      const begin = performance.now();
      const program = await buildProgram(
        compiled.sources,
        build,
        config.target,
        report,
        config.parallel.comm,
      );
      const seconds = { ...compiled.seconds, build: (performance.now() - begin) / 1000 };
      const plan = join(build, "plan.txt");
      await writeFile(plan, compiled.planText);
      const sources = compiled.sources.map(({ path }) => join(build, path));
      if (options.json) {
        printJson({ ...program, plan, sources, seconds, ...inspected });
        return;
      }
      for (const [stage, time] of Object.entries(seconds))
        print(`${time.toFixed(3).padStart(8)} s  ${stage}`);
      print(`${plan} says what a step does; ithaca train runs it`);
    },
  );
}
