/** @file What commands print: results on standard output, everything else on standard error. */
import { Command } from "commander";
import { createColors } from "picocolors";
import { BuildError } from "../codegen/build.ts";
import { formatError, UserError } from "../ir/error.ts";

/** Sets the exit code of the process. */
export type Exit = (code: number) => void;

/** Options that every command with a configuration has. */
export interface ConfigOptions {
  readonly set: readonly string[];
  readonly json: boolean;
}

/** A command that takes a configuration file, --set and --json. */
export function configCommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .argument("<config>", "configuration file, such as config.yaml")
    .option(
      "-s, --set <key=value>",
      "change a value of the configuration, such as max_steps=100; may be repeated",
      (option: string, all: readonly string[]) => [...all, option],
      [] as readonly string[],
    )
    .option("--json", "print one JSON object", false);
}

/** A message about what is going on. */
export function report(message: string): void {
  process.stderr.write(`${message}\n`);
}

export function print(text: string): void {
  process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
}

export function printJson(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** What is printed about an error; for one that isn't the user's, also what to do with it. */
export function explain(error: unknown): string {
  const colors = createColors(process.stderr.isTTY === true);
  if (error instanceof UserError) return formatError(error).replace(/^.*/, (line) => colors.red(line));
  if (error instanceof BuildError) {
    return [
      colors.red(error.message),
      "",
      '"ithaca doctor" says whether the compiler and its libraries are in order. If they are, this is a fault of',
      "Ithaca: please report it with the lines above and the configuration.",
    ].join("\n");
  }
  const { code, path, dest } = (error ?? {}) as NodeJS.ErrnoException & { dest?: string };
  if (code === "ENOSPC") return colors.red(`no space left on the device for ${dest ?? path ?? "a file"}`);
  return [
    colors.red("ithaca: internal error"),
    error instanceof Error ? (error.stack ?? error.message) : String(error),
    "",
    "This is a fault of Ithaca: please report it with the lines above and the configuration.",
  ].join("\n");
}
