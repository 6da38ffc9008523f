/** @file Runs a pipeline: checks what passes need, verifies what they promise, and says which one broke something. */
import { UserError } from "../ir/error.ts";
import { allNodes, type Graph, nodeCount } from "../ir/graph.ts";
import { suggestion } from "../ir/nearest.ts";
import { type PropertyName, printComplaint, properties, verify } from "../ir/verify.ts";
import type { Pass } from "./pass.ts";
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
  /** Stop behind this pass; "input" runs none. */
  readonly stopAfter?: string;
  /** What holds of the graph that is given, and must go on to hold: see `heldBy`. */
  readonly established?: readonly PropertyName[];
  /** Verify the graph after each pass; true unless given. Only what is thrown away afterwards may do without. */
  readonly verify?: boolean;
  /** Compares the numbers before and after a pass; what it returns is what is wrong with them. Null: they were kept. */
  readonly compare?: (entry: PipelineEntry, before: Graph, after: Graph) => string | null;
  /** Called with every stage as it is reached, the input first (as pass "input"). */
  readonly onStage?: (stage: Stage) => void;
}

/** It threw or returned no graph; the graph does not verify; the graph computes something else. */
export type PassFault = "failed" | "unverified" | "changed the numbers";

/** A pass broke its promise: our bug, or that of a custom pass. */
export class PassError extends Error {
  readonly fault: PassFault;
  /** The pass as it was run; null where what was given did not verify. */
  readonly entry: PipelineEntry | null;
  readonly graphBefore: Graph;

  constructor(
    fault: PassFault,
    entry: PipelineEntry | null,
    graphBefore: Graph,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = "PassError";
    this.fault = fault;
    this.entry = entry;
    this.graphBefore = graphBefore;
  }

  /** The name of the pass; "input" where what was given did not verify. */
  get pass(): string {
    return this.entry?.pass.name ?? "input";
  }
}

/** Runs the entries in order. After each, every property established so far is verified. */
export function runPipeline(
  graph: Graph,
  entries: readonly PipelineEntry[],
  options: RunOptions = {},
): Stage[] {
  const isKnown = (name: string) => name === "input" || entries.some(({ pass }) => pass.name === name);
  if (options.stopAfter !== undefined && !isKnown(options.stopAfter)) {
    throw new UserError(`there is no pass "${options.stopAfter}"`, {
      remedy: suggestion(
        options.stopAfter,
        entries.map(({ pass }) => pass.name),
        "passes",
      ),
    });
  }
  const established = [...new Set<PropertyName>(["typed", ...(options.established ?? [])])];
  const { verify: verifies = true, compare, onStage, stopAfter } = options;
  if (verifies) check(null, graph, graph, established);
  const stages: Stage[] = [stageOf("input", graph, graph, 0)];
  onStage?.(stages[0]);
  for (const entry of stopAfter === "input" ? [] : entries) {
    const { pass } = entry;
    const before = stages[stages.length - 1].graph;
    checkRequired(pass, before, established);
    const start = performance.now();
    const after = runPass(entry, before);
    const elapsed = performance.now() - start;
    const promised = pass.establishes.filter((property) => !established.includes(property));
    established.push(...promised);
    if (verifies && (after !== before || promised.length > 0)) check(entry, before, after, established);
    if (after !== before && compare) {
      const complaint = compare(entry, before, after);
      if (complaint !== null)
        throw new PassError(
          "changed the numbers",
          entry,
          before,
          `the pass "${pass.name}" changed the numbers: ${complaint}`,
        );
    }
    stages.push(stageOf(pass.name, before, after, elapsed));
    onStage?.(stages[stages.length - 1]);
    if (pass.name === stopAfter) break;
  }
  return stages;
}

/**
 * What a graph from a file holds and `entries` must keep: all but what one of them establishes anew. A graph without a
 * single split is laid out only because there is nothing to lay out, and may be split by the first pass.
 */
export function heldBy(graph: Graph, entries: readonly PipelineEntry[]): PropertyName[] {
  const later = new Set(entries.flatMap(({ pass }) => pass.establishes));
  const isSplit = allNodes(graph.nodes).some(({ operands }) =>
    operands.some(({ type }) => type.dims.some(({ axes }) => axes.length > 0)),
  );
  return (Object.keys(properties) as PropertyName[]).filter(
    (name) => !later.has(name) && (name !== "laid-out" || isSplit) && verify(graph, [name]).length === 0,
  );
}

/** What a pass requires must hold: because a pass before it saw to it, or by itself. */
function checkRequired(pass: Pass, before: Graph, established: readonly PropertyName[]): void {
  for (const property of pass.requires) {
    if (established.includes(property)) continue;
    const [complaint] = verify(before, [property]);
    if (!complaint) continue;
    throw new UserError(
      `"${pass.name}" needs a graph that is "${property}": ${properties[property].meaning}`,
      {
        remedy: `It is not: ${printComplaint(complaint)}. Put a pass that establishes "${property}" before it.`,
      },
    );
  }
}

function runPass(entry: PipelineEntry, before: Graph): Graph {
  const { pass, options, file } = entry;
  let after: Graph;
  try {
    after = pass.run(before, options);
  } catch (error) {
    // What our own passes refuse is the model's or the configuration's; what another's pass refuses may be its fault.
    if (error instanceof UserError && file === undefined) throw error;
    const at = error instanceof UserError && error.location ? `${error.location}: ` : "";
    const remedy = error instanceof UserError && error.remedy ? `\n  ${error.remedy}` : "";
    const message = error instanceof Error ? error.message : String(error);
    throw new PassError("failed", entry, before, `the pass "${pass.name}" failed: ${at}${message}${remedy}`, {
      cause: error,
    });
  }
  if (Array.isArray(after?.nodes)) return after;
  const what = after === undefined ? "nothing" : JSON.stringify(after);
  throw new PassError("failed", entry, before, `the pass "${pass.name}" returned ${what}, not a graph`);
}

function check(
  entry: PipelineEntry | null,
  before: Graph,
  after: Graph,
  established: readonly PropertyName[],
): void {
  const complaints = verify(after, established);
  if (complaints.length === 0) return;
  const shown = complaints
    .slice(0, 5)
    .map((complaint) => `  ${printComplaint(complaint)} (${complaint.property})`);
  const more = complaints.length > shown.length ? `\n  and ${complaints.length - shown.length} more` : "";
  const where = entry ? `after the pass "${entry.pass.name}" the graph` : "the graph that was given";
  throw new PassError("unverified", entry, before, `${where} does not verify:\n${shown.join("\n")}${more}`);
}

function stageOf(pass: string, before: Graph, after: Graph, milliseconds: number): Stage {
  return {
    pass,
    graph: after,
    milliseconds,
    nodesBefore: nodeCount(before.nodes),
    nodesAfter: nodeCount(after.nodes),
  };
}
