/** @file All commands; reads arguments, runs one command, turns errors into messages and exit codes. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { packageRoot } from "../codegen/toolchain.ts";
import { PassError } from "../passes/run.ts";
import { checkOpCommand } from "./check-op.ts";
import { compileCommand } from "./compile.ts";
import { doctorCommand } from "./doctor.ts";
import { writeReplay } from "./dump.ts";
import { irCommand } from "./ir.ts";
import { optCommand } from "./opt.ts";
import { explain } from "./output.ts";
import { planCommand } from "./plan.ts";
import { trainCommand } from "./train.ts";
import { viewCommand } from "./view.ts";

/** Runs `ithaca ARGS` and returns its exit code: 0, 1 for an error, 2 for wrong arguments, 130 after Ctrl-C. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  let exitCode = 0;
  const exit = (code: number) => {
    exitCode = code;
  };
  const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as {
    version: string;
  };
  const program = new Command("ithaca")
    .description("Compiles a model definition to a training binary for long sequences.")
    .version(version)
    .showHelpAfterError("(ithaca --help says more)")
    // Without "(default: false)": what happens when an option isn't given is clear, or part of its description.
    .configureHelp({ optionDescription: ({ description }) => description })
    .exitOverride();
  for (const command of [
    trainCommand(exit),
    compileCommand(),
    planCommand(exit),
    irCommand(),
    optCommand(),
    checkOpCommand(exit),
    viewCommand(),
    doctorCommand(exit),
  ]) {
    command.copyInheritedSettings(program).showHelpAfterError(`(ithaca ${command.name()} --help says more)`);
    program.addCommand(command);
  }
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (error) {
    // Commander has printed its own message by now; it throws after --help and --version too.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    process.stderr.write(`${explain(error)}\n`);
    const replay = error instanceof PassError ? writeReplay(error) : null;
    if (replay !== null)
      process.stderr.write(`\nThis runs the pass alone on the graph it was given:\n  ${replay}\n`);
    return 1;
  }
  return exitCode;
}
