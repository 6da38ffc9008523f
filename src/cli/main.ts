#!/usr/bin/env node
/** @file The `ithaca` command. */
import { runCommandLine } from "./run.ts";

// The reader of a pipe may go away: `ithaca ir config.yaml | head`.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

process.exitCode = await runCommandLine(process.argv.slice(2));
