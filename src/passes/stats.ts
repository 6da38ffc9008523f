/** @file What each pass did, as numbers: its time, and the ops, bytes and FLOPs of the graph before and after. */
import { costOf } from "../ir/flops.ts";
import { type Graph, nodeCount } from "../ir/graph.ts";
import { printCount } from "../ir/units.ts";
import type { Stage } from "./run.ts";

/** Of one stage. Bytes and FLOPs are what the records say of all ops of a step on all ranks, loops counted as often as they run. */
export interface StageStats {
  readonly pass: string;
  readonly milliseconds: number;
  readonly nodes: number;
  readonly bytes: number;
  readonly flops: number;
  /** Whether the pass returned another graph than it was given. */
  readonly changed: boolean;
}

/** One line a stage, the input first. */
export function statsOf(stages: readonly Stage[]): StageStats[] {
  const known = new Map<Graph, Pick<StageStats, "nodes" | "bytes" | "flops">>();
  return stages.map(({ pass, graph, milliseconds }, i) => {
    const counts = known.get(graph) ?? { nodes: nodeCount(graph.nodes), ...costOf(graph.nodes) };
    known.set(graph, counts);
    return { pass, milliseconds, ...counts, changed: i > 0 && graph !== stages[i - 1].graph };
  });
}

/** The table of `--stats`. What a pass left as it was is not repeated. */
export function printStats(stages: readonly Stage[]): string {
  const head = ["pass", "ms", "ops", "bytes", "FLOPs"];
  const rows = statsOf(stages).map(({ pass, milliseconds, nodes, bytes, flops, changed }, i) => {
    const counts =
      changed || i === 0 ? [String(nodes), printCount(bytes), printCount(flops)] : ["=", "=", "="];
    return [pass, milliseconds.toFixed(1), ...counts];
  });
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column].length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ");
  return `${all.map(line).join("\n")}\n`;
}
