/** @file The trace of a profiled run: what each rank wrote, put together in one file for chrome://tracing and Perfetto. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface ProfileFiles {
  /** Where ranks write: a folder that is gone once they are put together. */
  readonly folder: string;
  readonly trace: string;
}

export function profileFiles(outputDir: string): ProfileFiles {
  return { folder: join(outputDir, "build", "traces"), trace: join(outputDir, "trace.json") };
}

/** Empties the folder for a new run. */
export function beginProfile({ folder }: ProfileFiles): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
}

/** Returns the path of the trace; null where no rank has written one, as when the run ended before its second step. */
export function endProfile({ folder, trace }: ProfileFiles): string | null {
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => /^rank-\d+\.json$/.test(name)) : [];
  if (files.length === 0) return null;
  const traceEvents = files.flatMap(
    (name) => (JSON.parse(readFileSync(join(folder, name), "utf8")) as { traceEvents: object[] }).traceEvents,
  );
  writeFileSync(trace, `${JSON.stringify({ displayTimeUnit: "ms", traceEvents })}\n`);
  rmSync(folder, { recursive: true });
  return trace;
}
