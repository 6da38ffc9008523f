/** @file The lanes of the schedule over predicted time, and beneath each what a run took. The wheel zooms, a drag moves. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ViewData } from "../view-data.ts";
import { surfaceOf } from "./canvas.ts";
import { kindOfOp } from "../op-kind.ts";
import { printSeconds } from "../../ir/units.ts";
import type { Pick } from "./pick.ts";

interface LanesProps {
  readonly data: ViewData;
  readonly pick: Pick | null;
  readonly onPick: (pick: Pick) => void;
}

interface Bar {
  readonly begin: number;
  readonly end: number;
  readonly name: string;
  readonly op: string;
  readonly text: string;
}

interface Row {
  readonly title: string;
  readonly bars: readonly Bar[];
}

const ROW = 34;

/** A row for each lane that has steps, and one under it for each rank of the trace. */
function rowsOf({ plan, trace }: ViewData): Row[] {
  const lanes = [...new Set(plan.steps.map(({ lane }) => lane))];
  return lanes.flatMap((lane): Row[] => {
    const bars = plan.steps
      .map((step, index): Bar & { lane: string } => ({
        ...{ begin: step.begin, end: step.end, name: step.name, op: step.op, lane: step.lane },
        text: `step ${index}: ${step.op} %${step.name}, ${printSeconds(step.end - step.begin)}, ${step.layer} ${step.loc}`,
      }))
      .filter((bar) => bar.lane === lane);
    const spans = trace.filter((span) => span.lane === lane);
    const measured = [...new Set(spans.map(({ rank }) => rank))].map((rank): Row => {
      const own = spans.filter((span) => span.rank === rank);
      return {
        title: `${lane}, rank ${rank} measured`,
        bars: own.map(({ name, begin, end }) => {
          const [op = "", value = ""] = name.split(" %");
          return { begin, end, name: value, op, text: `${name}, measured ${printSeconds(end - begin)}` };
        }),
      };
    });
    return [{ title: `${lane}, predicted`, bars }, ...measured];
  });
}

export function LanesLook({ data, pick, onPick }: LanesProps) {
  const rows = useMemo(() => rowsOf(data), [data]);
  const total = Math.max(data.plan.seconds, ...data.trace.map(({ end }) => end));
  const canvas = useRef<HTMLCanvasElement>(null);
  const [view, setView] = useState<readonly [begin: number, end: number]>([0, total]);
  const [under, setUnder] = useState<Bar | null>(null);
  const [begin, end] = view;

  useEffect(() => {
    const own = canvas.current;
    if (own) paint(own, rows, begin, end, pick);
  }, [rows, begin, end, pick]);

  const timeAt = (event: MouseEvent) => {
    const box = (canvas.current as HTMLCanvasElement).getBoundingClientRect();
    return begin + ((event.clientX - box.left) / box.width) * (end - begin);
  };
  const barAt = (event: MouseEvent): Bar | null => {
    const box = (canvas.current as HTMLCanvasElement).getBoundingClientRect();
    const time = timeAt(event);
    const row = rows[Math.floor((event.clientY - box.top) / ROW)];
    return row?.bars.find((bar) => bar.begin <= time && time < bar.end) ?? null;
  };
  const onWheel = (event: WheelEvent) => {
    event.preventDefault();
    const factor = event.deltaY > 0 ? 1.25 : 0.8;
    const at = timeAt(event);
    const span = Math.min(total, Math.max((end - begin) * factor, total * 1e-5));
    const from = Math.min(Math.max(at - ((at - begin) / (end - begin)) * span, 0), total - span);
    setView([from, from + span]);
  };
  const onMove = (event: MouseEvent) => {
    setUnder(barAt(event));
    if (event.buttons !== 1) return;
    const box = (canvas.current as HTMLCanvasElement).getBoundingClientRect();
    const shift = Math.min(Math.max(-(event.movementX / box.width) * (end - begin), -begin), total - end);
    setView([begin + shift, end + shift]);
  };
  return (
    <section class="lanes">
      <p>
        {printSeconds(data.plan.seconds)} predicted a step on {data.plan.machine}
        {data.trace.length > 0 && `, beside ${printSeconds(Math.max(...data.trace.map((span) => span.end)))} measured`}
      </p>
      <div class="rows">
        <ul style={{ lineHeight: `${ROW}px` }}>
          {rows.map(({ title }) => (
            <li key={title}>{title}</li>
          ))}
        </ul>
        <canvas
          ref={canvas}
          style={{ height: `${rows.length * ROW}px` }}
          onWheel={onWheel}
          onMouseMove={onMove}
          onMouseLeave={() => setUnder(null)}
          onClick={(event) => {
            const bar = barAt(event);
            if (bar) onPick(bar.name);
          }}
        />
      </div>
      <p class="axis">
        <span>{printSeconds(begin)}</span>
        <span>{printSeconds(end)}</span>
      </p>
      <p class="under">{under?.text ?? "Point at a bar. The wheel zooms, a drag moves."}</p>
    </section>
  );
}

function paint(canvas: HTMLCanvasElement, rows: readonly Row[], begin: number, end: number, pick: Pick | null): void {
  const surface = surfaceOf(canvas);
  if (!surface) return;
  const { context, width, ratio, color } = surface;
  const scale = width / (end - begin);
  rows.forEach(({ bars, title }, row) => {
    const y = (row * ROW + 5) * ratio;
    context.globalAlpha = title.endsWith("measured") ? 0.75 : 1;
    for (const bar of bars) {
      const x = (bar.begin - begin) * scale;
      const wide = Math.max((bar.end - bar.begin) * scale, 0.6);
      if (x > width || x + wide < 0) continue;
      context.fillStyle = color(bar.name === pick ? "text" : `op-${kindOfOp(bar.op)}`);
      context.fillRect(x, y, wide > 3 ? wide - 0.7 : wide, (ROW - 10) * ratio);
    }
  });
}
