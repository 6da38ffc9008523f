/** @file Graphs on disk: one file a pass for `--dump`, and the graph in front of a pass that failed. */
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { allNodes, type Graph } from "../ir/graph.ts";
import { fileOfOp } from "../ir/ops/index.ts";
import { print } from "../ir/print.ts";
import { printPasses } from "../passes/arrange.ts";
import type { PassError, Stage } from "../passes/run.ts";

/** Writes each stage it is given to `NN-PASS.ir` in the folder, as soon as it is reached. */
export function dumper(folder: string): (stage: Pick<Stage, "pass" | "graph">) => void {
  mkdirSync(folder, { recursive: true });
  let count = 0;
  return ({ pass, graph }) => {
    writeFileSync(join(folder, `${String(count++).padStart(2, "0")}-${pass}.ir`), print(graph));
  };
}

const quoted = (word: string): string =>
  /^[\w./-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`;

/** Files of ops of the user's own that a graph has. */
export function filesOfOps({ nodes }: Graph): readonly string[] {
  return [...new Set(allNodes(nodes).flatMap(({ op }) => fileOfOp(op) ?? []))];
}

/** Writes the graph in front of the pass that failed, and gives the command that runs just that pass on it. */
export function writeReplay({ entry, graphBefore, fault }: PassError): string | null {
  if (!entry) return null;
  const file = join(mkdtempSync(join(tmpdir(), "ithaca-")), `before-${entry.pass.name}.ir`);
  writeFileSync(file, print(graphBefore));
  const own = filesOfOps(graphBefore);
  const files = new Set(entry.file === undefined ? own : [...own, resolve(entry.file)]);
  const words = [
    ...[...files].flatMap((file) => ["--load", relative("", file)]),
    "--passes",
    printPasses([entry]),
    ...(fault === "changed the numbers" ? ["--check"] : []),
  ];
  return `ithaca opt ${quoted(file)} ${words.map(quoted).join(" ")}`;
}
