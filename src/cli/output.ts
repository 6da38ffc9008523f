/** @file What commands print: results on standard output, everything else on standard error. */
import { relative } from "node:path";
import { Command } from "commander";
import { createColors } from "picocolors";
import { cacheDir } from "../cache.ts";
import { BuildError } from "../codegen/build.ts";
import { formatError, UserError } from "../ir/error.ts";
import { PassError } from "../passes/run.ts";
import { filesOfOps } from "./dump.ts";

/** Sets the exit code of the process. */
export type Exit = (code: number) => void;

/** Options that every command with passes has. */
export interface PassesOptions {
  readonly dump?: string;
  readonly stats: boolean;
  readonly check: boolean;
  readonly json: boolean;
}

/** Options that every command with a configuration has. */
export interface ConfigOptions extends PassesOptions {
  readonly set: readonly string[];
}

/** A command that takes a configuration file, --set and what every command with passes takes. */
export function configCommand(name: string, description: string): Command {
  const command = new Command(name)
    .description(description)
    .argument("<config>", "configuration file, such as config.yaml")
    .option(
      "-s, --set <key=value>",
      "change a value of the configuration, such as max_steps=100; may be repeated",
      (option: string, all: readonly string[]) => [...all, option],
      [] as readonly string[],
    );
  return withPassesOptions(command);
}

export function withPassesOptions(command: Command): Command {
  return command
    .option("--dump <dir>", "write the graph after each pass there, and the plan where there is one")
    .option("--stats", "print time, ops, bytes and FLOPs of each pass on standard error", false)
    .option("--check", "run the graph before and after each pass on small random inputs and compare", false)
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

/** Where a file system can refuse at any time: what each reason means. */
const refusals: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EDQUOT: "the disk quota is used up",
  ENOSPC: "no space left on the device",
  ENOTDIR: "a part of the path is a file",
  EPERM: "permission denied",
  EROFS: "the file system is read-only",
};

/** What a file system refused, as an error of the user's; undefined for any other error. */
function fileTrouble(error: unknown): UserError | undefined {
  const { code = "", path, dest, syscall } = (error ?? {}) as NodeJS.ErrnoException & { dest?: string };
  // Of folders that mkdir makes on the way to one, Node says only this.
  const reason = code === "ENOENT" && syscall === "mkdir" ? "the folder can't be made" : refusals[code];
  if (reason === undefined) return undefined;
  const place = (dest ?? path)?.replace(/\.\d+\.\d+\.tmp$/, "");
  const isFull = code === "ENOSPC" || code === "EDQUOT";
  return new UserError(reason, {
    ...(place !== undefined && { location: place }),
    remedy: `${isFull ? "Make room, or choose" : "Choose"} another place: output_dir in the configuration, or ITHACA_CACHE (now ${cacheDir()}) for what is kept from run to run.`,
  });
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
  if (error instanceof PassError && error.entry?.file !== undefined) {
    return `${colors.red(error.message)}\n  The pass is in ${error.entry.file}.`;
  }
  const own = error instanceof PassError ? filesOfOps(error.graphBefore) : [];
  if (error instanceof PassError && own.length > 0) {
    const files = own.map((file) => relative("", file)).join(" and ");
    const hint = `The graph has ops of your own, from ${files}: see first that they hold, with ithaca check-op.`;
    return `${colors.red(error.message)}\n  ${hint}`;
  }
  const trouble = fileTrouble(error);
  if (trouble) return explain(trouble);
  return [
    colors.red("ithaca: internal error"),
    error instanceof Error ? (error.stack ?? error.message) : String(error),
    "",
    "This is a fault of Ithaca: please report it with the lines above and the configuration.",
  ].join("\n");
}
