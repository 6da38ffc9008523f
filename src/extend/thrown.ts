/** @file Files of the user's that were loaded, and where in them an error was thrown. */
import type { SourceMap } from "node:module";

export interface Loaded {
  /** The name by which messages call the file. */
  readonly file: string;
  readonly text: string;
  readonly exports: Record<string, unknown>;
  readonly map: SourceMap;
}

/** What was loaded, by absolute path. */
export const loaded = new Map<string, Loaded>();

/** Where in a file that was loaded an error was thrown, as `file:line`; undefined for errors from elsewhere. */
export function throwingLine(error: unknown): string | undefined {
  const stack = error instanceof Error ? (error.stack ?? "") : "";
  const frames = stack.split("\n").filter((line) => /^\s+at /.test(line));
  for (const frame of frames) {
    for (const [path, { file, map }] of loaded) {
      const line = lineIn(frame, path, map);
      if (line !== null) return `${file}:${line}`;
    }
  }
  return undefined;
}

/** The line in the file as it was written; the stack names that of the code without types. */
function lineIn(frame: string, path: string, map: SourceMap): number | null {
  const at = frame.indexOf(`${path}:`);
  const match = at < 0 ? null : /^:(\d+):(\d+)/.exec(frame.slice(at + path.length));
  if (!match) return null;
  const entry = map.findEntry(Number(match[1]) - 1, Number(match[2]) - 1);
  return "originalLine" in entry ? entry.originalLine + 1 : null;
}
