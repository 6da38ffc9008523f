/** @file Runs a pipeline: checks what passes need, verifies what they promise, and says which one broke something. */
import { UserError } from "../ir/error.ts";
import { allNodes, type Graph } from "../ir/graph.ts";
import { suggestion } from "../ir/nearest.ts";
import { type PropertyName, printComplaint, properties, verify } from "../ir/verify.ts";
import type { PipelineEntry } from "./pipeline.ts";

/** The graph after one pass. */
export interface Stage {
  readonly pass: string;
  readonly graph: Graph;
  readonly milliseconds: number;
  readonly nodesBefore: number;
  readonly nodesAfter: number;
}

export interface RunOptions {
  /** Stop behind this pass. */
  readonly stopAfter?: string;
  /** Verify the graph after each pass; true unless given. Only what is thrown away afterwards may do without. */
  readonly verify?: boolean;
  /** Called with every stage as it is reached, the input first (as pass "input"). */
  readonly onStage?: (stage: Stage) => void;
}

/** A pass broke its promise: our bug, or that of a custom pass. */
export class PassError extends Error {
  readonly pass: string;
  readonly graphBefore: Graph;

  constructor(pass: string, graphBefore: Graph, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "PassError";
    this.pass = pass;
    this.graphBefore = graphBefore;
  }
}

/** Runs the entries in order. After each, every property established so far is verified. */
export function runPipeline(
  graph: Graph,
  entries: readonly PipelineEntry[],
  options: RunOptions = {},
): Stage[] {
  if (options.stopAfter !== undefined && !entries.some(({ pass }) => pass.name === options.stopAfter)) {
    throw new UserError(`there is no pass "${options.stopAfter}"`, {
      remedy: suggestion(
        options.stopAfter,
        entries.map(({ pass }) => pass.name),
        "passes",
      ),
    });
  }
  const established: PropertyName[] = ["typed"];
  const { verify: verifies = true } = options;
  if (verifies) check("input", graph, graph, established);
  const stages: Stage[] = [stageOf("input", graph, graph, 0)];
  options.onStage?.(stages[0]);
  for (const { pass, options: passOptions } of entries) {
    const before = stages[stages.length - 1].graph;
    for (const property of pass.requires) {
      if (!established.includes(property)) {
        throw new UserError(
          `"${pass.name}" needs a graph that is "${property}": ${properties[property].meaning}`,
          {
            remedy: `Put a pass that establishes "${property}" before it.`,
          },
        );
      }
    }
    const start = performance.now();
    const after = runPass(pass.name, before, () => pass.run(before, passOptions));
    const elapsed = performance.now() - start;
    for (const property of pass.establishes) if (!established.includes(property)) established.push(property);
    if (verifies && after !== before) check(pass.name, before, after, established);
    stages.push(stageOf(pass.name, before, after, elapsed));
    options.onStage?.(stages[stages.length - 1]);
    if (pass.name === options.stopAfter) break;
  }
  return stages;
}

function runPass(name: string, before: Graph, run: () => Graph): Graph {
  try {
    return run();
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new PassError(name, before, `the pass "${name}" failed: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function check(pass: string, before: Graph, after: Graph, established: readonly PropertyName[]): void {
  const complaints = verify(after, established);
  if (complaints.length === 0) return;
  const shown = complaints
    .slice(0, 5)
    .map((complaint) => `  ${printComplaint(complaint)} (${complaint.property})`);
  const more = complaints.length > shown.length ? `\n  and ${complaints.length - shown.length} more` : "";
  throw new PassError(
    pass,
    before,
    `after the pass "${pass}" the graph does not verify:\n${shown.join("\n")}${more}`,
  );
}

function stageOf(pass: string, before: Graph, after: Graph, milliseconds: number): Stage {
  return {
    pass,
    graph: after,
    milliseconds,
    nodesBefore: allNodes(before.nodes).length,
    nodesAfter: allNodes(after.nodes).length,
  };
}

/** A table of what each pass did. */
export function printStages(stages: readonly Stage[]): string {
  const rows = stages.map(({ pass, milliseconds, nodesBefore, nodesAfter }) => {
    const change = nodesBefore === nodesAfter ? String(nodesAfter) : `${nodesBefore} > ${nodesAfter}`;
    return `${pass.padEnd(16)} ${milliseconds.toFixed(1).padStart(8)}   ${change}`;
  });
  return `${"pass".padEnd(16)} ${"ms".padStart(8)}   nodes\n${rows.join("\n")}\n`;
}
