/** @file Gathers what the page shows from a compilation, its plan and a prediction of its times. */
import { parameterCount } from "../ir/flops.ts";
import type { Graph } from "../ir/graph.ts";
import type { Plan } from "../ir/plan.ts";
import { printType } from "../ir/type.ts";
import { anatomyOf } from "../plan/anatomy.ts";
import type { Timeline } from "../plan/roofline.ts";
import { blocksOf } from "./blocks.ts";
import type { ViewData, ViewSpan, ViewStage } from "./view-data.ts";

export interface CompiledView {
  readonly title: string;
  readonly about: string;
  /** The graph after every pass, the input first, with its difference to the one before in lines. */
  readonly stages: readonly {
    readonly pass: string;
    readonly summary: string;
    readonly milliseconds: number;
    readonly graph: Graph;
    readonly diff: readonly string[];
  }[];
  readonly plan: Plan;
  readonly timeline: Timeline;
  readonly machine: string;
  readonly trace: readonly ViewSpan[];
}

/** Lines of a diff that a person may still read. */
const MOST_DIFF_LINES = 2000;

export function viewData({ title, about, stages, plan, timeline, machine, trace }: CompiledView): ViewData {
  const { layers, parts } = anatomyOf(plan);
  const locations = new Map(parts.map(({ origin, loc }) => [origin, loc]));
  const [input] = stages;
  return {
    title,
    about,
    modules: input.graph.params
      .filter(({ role }) => role === "param")
      .map(({ value }) => ({ name: value.name, type: printType(value.type) })),
    stages: stages.map(({ graph, diff, ...stage }): ViewStage => {
      const more = diff.length - MOST_DIFF_LINES;
      const shown = more > 0 ? [...diff.slice(0, MOST_DIFF_LINES), `... ${more} more lines`] : diff;
      return { ...stage, nodes: graph.nodes.length, diff: shown, blocks: blocksOf(graph) };
    }),
    plan: {
      deviceBytes: plan.deviceBytes,
      hostBytes: plan.hostBytes,
      fileBytes: plan.fileBytes,
      seconds: timeline.seconds,
      machine,
      steps: plan.steps.map(({ node, lane, index }) => ({
        name: node.results[0]?.name ?? "",
        op: node.op,
        lane,
        layer: layers[index],
        loc: node.loc,
        ...timeline.spans[index],
      })),
      buffers: plan.buffers.map(({ name, kind, memory, bytes, offset, persistent, first, last }, i) => ({
        ...{ name, kind, memory, bytes, offset },
        first: persistent ? 0 : first,
        last: persistent ? plan.steps.length - 1 : last,
        loc: locations.get(i) ?? "",
      })),
    },
    trace,
  };
}

/** "1.2B", of a graph's weights. */
export function sizeOf(graph: Graph): string {
  const count = parameterCount(graph);
  const [divisor, unit] = count >= 1e9 ? [1e9, "B"] : count >= 1e6 ? [1e6, "M"] : [1e3, "K"];
  return `${(count / divisor).toFixed(1)}${unit}`;
}
