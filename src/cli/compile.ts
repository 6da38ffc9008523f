/** @file `ithaca compile`: sources, binary, plan and dumps, without training. */
import { writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { buildProgram } from "../codegen/build.ts";
import { loadConfig } from "../config/load.ts";
import { requireWritable } from "../launch/train.ts";
import { type ConfigOptions, configCommand, print, printJson, report } from "./output.ts";

interface CompileOptions extends ConfigOptions {
  readonly dump?: string;
}

export function compileCommand(): Command {
  return configCommand("compile", "write sources, binary and plan to output_dir/build")
    .option("--dump <dir>", "also write the IR after every pass there")
    .action(async (file: string, { set, json, dump }: CompileOptions) => {
      const config = loadConfig(file, set);
      const { compileConfig } = await import("../compile.ts");
      const compiled = await compileConfig(config, dump === undefined ? {} : { dump: resolve(dump) });
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
      if (json) {
        printJson({ ...program, plan, sources, seconds });
        return;
      }
      for (const [stage, time] of Object.entries(seconds))
        print(`${time.toFixed(3).padStart(8)} s  ${stage}`);
      print(`${plan} says what a step does; ithaca train runs it`);
    });
}
