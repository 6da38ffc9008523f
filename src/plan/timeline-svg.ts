/** @file The timeline of a step as an SVG: device memory by kind, the limit, the peak, and what each lane does beneath. */
import { readFileSync } from "node:fs";
import nunjucks from "nunjucks";
import { type Lane, lanes, type Plan } from "../ir/plan.ts";
import { printBytes, printSeconds } from "../ir/units.ts";
import { type ReportKind, reportKinds } from "./anatomy.ts";
import type { Column } from "./chart.ts";
import type { Timeline } from "./roofline.ts";

const colors: Readonly<Record<ReportKind, string>> = {
  parameters: "#4c78a8",
  gradients: "#f58518",
  optimizer: "#72b7b2",
  activations: "#54a24b",
  checkpoints: "#b279a2",
  workspace: "#9d755d",
  communication: "#eeca3b",
  allowance: "#bab0ac",
};

const size = { width: 960, left: 90, right: 940, top: 66, bottom: 330, laneTop: 350, laneHeight: 18 };

export interface TimelineFigure {
  readonly title: string;
  readonly subtitle: string;
  readonly columns: readonly Column[];
  readonly plan: Plan;
  readonly timeline: Timeline;
  readonly seconds: number;
  /** Bytes; null: none. */
  readonly limit: number | null;
  /** The step at which most is alive. */
  readonly peakStep: number;
}

/** Coordinates with one decimal. */
const round = (value: number): number => Math.round(value * 10) / 10;

/** 0, and multiples of a round number of GiB, MiB ... up to `most`. */
function ticksOf(most: number): number[] {
  const unit = 1024 ** Math.floor(Math.log(Math.max(most, 1)) / Math.log(1024));
  const rough = most / unit / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) as number) * power * unit;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
}

export function timelineSvg(figure: TimelineFigure): string {
  const { columns, seconds, limit, plan, timeline, peakStep } = figure;
  const { left, right, top, bottom } = size;
  const most = Math.max(limit ?? 0, ...columns.map(({ bytes }) => bytes)) * 1.04;
  const x = (time: number): number => round(left + (time / seconds) * (right - left));
  const y = (bytes: number): number => round(bottom - (bytes / most) * (bottom - top));
  // From what is always there to what comes and goes.
  const shown = (["allowance", ...reportKinds.slice(0, -1)] as ReportKind[]).filter((kind) =>
    columns.some(({ byKind }) => byKind[kind] > 0),
  );
  const floor = columns.map(() => 0);
  const areas = shown.map((kind) => {
    const below = [...floor];
    columns.forEach(({ byKind }, i) => {
      floor[i] += byKind[kind];
    });
    return { label: kind, color: colors[kind], path: areaPath(columns, below, floor, seconds, x, y) };
  });
  const at = timeline.spans[peakStep]?.begin ?? 0;
  const used = lanes.filter((lane) => plan.steps.some((step) => step.lane === lane));
  const { laneTop, laneHeight } = size;
  const axis = laneTop + used.length * laneHeight + 12;
  const rows = used.map((name, i) => ({
    name,
    y: laneTop + i * laneHeight,
    bars: barsOf(name, plan, timeline, x),
  }));
  const bars = rows.flatMap((row) => row.bars);
  const view = {
    ...figure,
    ...size,
    height: axis + 60,
    axis,
    areas,
    ticks: ticksOf(most).map((bytes) => ({ y: y(bytes), label: bytes === 0 ? "0" : printBytes(bytes) })),
    limit: limit === null ? null : { y: y(limit), label: `limit ${printBytes(limit)}` },
    peak: {
      x: x(at),
      anchor: at > seconds * 0.6 ? "end" : "start",
      label: `peak: ${plan.steps[peakStep]?.node.op ?? ""} ${plan.steps[peakStep]?.node.loc ?? ""}`.trim(),
    },
    lanes: rows,
    seconds: [0, 0.25, 0.5, 0.75, 1].map((part) => ({
      x: x(part * seconds),
      anchor: part === 1 ? "end" : "middle",
      label: part === 0 ? "0" : printSeconds(part * seconds),
    })),
    legend: [
      ...legendRow(
        axis + 14,
        shown.map((kind) => [kind, colors[kind]]),
      ),
      ...legendRow(
        axis + 34,
        opColors.filter(([, color]) => bars.some((own) => own.color === color)),
      ),
    ],
  };
  const template = readFileSync(new URL("./timeline.svg.njk", import.meta.url), "utf8");
  return `${nunjucks.renderString(template, view).trim()}\n`;
}

function areaPath(
  columns: readonly Column[],
  below: readonly number[],
  above: readonly number[],
  seconds: number,
  x: (time: number) => number,
  y: (bytes: number) => number,
): string {
  const edges = [...columns.map((column) => column.seconds), seconds];
  const upper = above.map((bytes, i) => `L${x(edges[i])} ${y(bytes)}H${x(edges[i + 1])}`);
  const lower = [...below].map((bytes, i) => `L${x(edges[i + 1])} ${y(bytes)}H${x(edges[i])}`).reverse();
  return `M${x(0)} ${y(below[0])}${upper.join("")}${lower.join("")}Z`;
}

/** Labels beside squares of their colors, each as far right as those before it need. */
function legendRow(y: number, entries: readonly (readonly [label: string, color: string])[]) {
  let x = size.left;
  return entries.map(([label, color]) => {
    const entry = { x, y, color, label };
    x += 34 + 7 * label.length;
    return entry;
  });
}

const OTHER_COMPUTE = "#b0b0b0";
const TRANSFER = "#eeca3b";

const laneColors: Readonly<Record<string, string>> = {
  attention: "#54a24b",
  attention_grad: "#2f7d32",
  matmul: "#4c78a8",
  matmul_add: "#4c78a8",
};

/** What the colors of the lanes' bars mean. */
const opColors: readonly (readonly [string, string])[] = [
  ["attention", laneColors.attention],
  ["its gradient", laneColors.attention_grad],
  ["products", laneColors.matmul],
  ["other compute", OTHER_COMPUTE],
  ["collectives and copies", TRANSFER],
];

/** Steps of a lane as bars; neighbours of one color that touch are one bar, so that a step of thousands stays readable. */
function barsOf(lane: Lane, plan: Plan, { spans }: Timeline, x: (time: number) => number) {
  const bars: { x: number; width: number; color: string; label: string }[] = [];
  for (const { index, node, lane: own } of plan.steps) {
    if (own !== lane) continue;
    const [begin, end] = [x(spans[index].begin), x(spans[index].end)];
    const color = laneColors[node.op] ?? (lane === "compute" ? OTHER_COMPUTE : TRANSFER);
    const last = bars.at(-1);
    if (last && begin - (last.x + last.width) < 0.3 && (last.color === color || end - begin < 0.3)) {
      last.width = round(Math.max(last.width, end - last.x));
    } else if (end - begin >= 0.1) {
      bars.push({ x: begin, width: round(end - begin), color, label: node.op });
    }
  }
  return bars;
}
