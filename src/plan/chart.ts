/** @file What a timeline is drawn from: device memory by kind over the predicted seconds of a step, in as many columns as there is room for. */
import { aligned } from "../ir/plan.ts";
import { type Part, type ReportKind, reportKinds } from "./anatomy.ts";
import type { Span } from "./roofline.ts";

/** A slice of the step: the fullest moment in it. */
export interface Column {
  readonly seconds: number;
  readonly step: number;
  readonly bytes: number;
  readonly byKind: Readonly<Record<ReportKind, number>>;
}

/**
 * `count` slices of equal time. `parts` are those of one memory, `fixed` the bytes that are always there beside them.
 * Each slice shows the step with most alive, so that no peak is lost between two.
 */
export function columnsOf(
  parts: readonly Part[],
  spans: readonly Span[],
  seconds: number,
  count: number,
  fixed: number,
): Column[] {
  const kinds = reportKinds.map((kind) => timelineOf(kind, parts, spans.length));
  const total = spans.map((_, step) => kinds.reduce((sum, bytes) => sum + bytes[step], fixed));
  const best = new Array<number>(count).fill(-1);
  spans.forEach(({ begin, end }, step) => {
    const first = Math.min(count - 1, Math.floor((begin / seconds) * count));
    const last = Math.min(count - 1, Math.floor((end / seconds) * count));
    for (let column = first; column <= last; column++)
      if (best[column] < 0 || total[step] > total[best[column]]) best[column] = step;
  });
  let before = 0;
  return best.map((own, column) => {
    const step = own < 0 ? before : own;
    before = step;
    const byKind = Object.fromEntries(reportKinds.map((kind, i) => [kind, kinds[i][step] ?? 0]));
    return {
      seconds: (column * seconds) / count,
      step,
      bytes: total[step] ?? fixed,
      byKind: { ...byKind, allowance: fixed } as Record<ReportKind, number>,
    };
  });
}

function timelineOf(kind: ReportKind, parts: readonly Part[], steps: number): Float64Array {
  const change = new Float64Array(steps + 1);
  let alive = 0;
  for (const part of parts) {
    if (part.kind !== kind) continue;
    if (part.persistent) alive += aligned(part.bytes);
    else {
      change[part.first] += aligned(part.bytes);
      change[part.last + 1] -= aligned(part.bytes);
    }
  }
  return change.subarray(0, steps).map((delta) => {
    alive += delta;
    return alive;
  });
}

const blocks = " ▁▂▃▄▅▆▇█";

/** One character a column, full height at `most`. */
export function sparkline(columns: readonly Column[], most: number): string {
  return columns
    .map(({ bytes }) => blocks[Math.min(8, Math.max(0, Math.round((bytes / most) * 8)))])
    .join("");
}
