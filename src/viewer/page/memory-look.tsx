/** @file The arena over the steps: every buffer as a rectangle from its first step to its last, at its offset. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ViewBuffer, ViewData } from "../view-data.ts";
import { surfaceOf } from "./canvas.ts";
import { printBytes } from "../../ir/units.ts";
import type { Pick } from "./pick.ts";

interface MemoryProps {
  readonly data: ViewData;
  readonly pick: Pick | null;
  readonly onPick: (pick: Pick) => void;
}

/** CSS variables of style.css. */
const kinds = ["parameters", "gradients", "optimizer", "inputs", "activations", "workspace", "communication"] as const;

export function MemoryLook({ data, pick, onPick }: MemoryProps) {
  const { plan } = data;
  const [memory, setMemory] = useState<ViewBuffer["memory"]>("device");
  const canvas = useRef<HTMLCanvasElement>(null);
  const [under, setUnder] = useState<ViewBuffer | null>(null);
  const buffers = useMemo(() => plan.buffers.filter((own) => own.memory === memory), [plan, memory]);
  const arenas = { device: plan.deviceBytes, host: plan.hostBytes, file: plan.fileBytes };
  const bytes = arenas[memory];
  const steps = plan.steps.length;

  useEffect(() => {
    const own = canvas.current;
    if (own) paint(own, buffers, steps, bytes, pick);
  }, [buffers, steps, bytes, pick]);

  const at = (event: MouseEvent): ViewBuffer | null => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    const step = Math.floor(((event.clientX - box.left) / box.width) * steps);
    const offset = (1 - (event.clientY - box.top) / box.height) * bytes;
    const found = buffers.filter(
      (own) => own.first <= step && step <= own.last && own.offset <= offset && offset < own.offset + own.bytes,
    );
    return found.at(-1) ?? null;
  };
  return (
    <section class="memory">
      <p>
        {(["device", "host", ...(plan.fileBytes > 0 ? (["file"] as const) : [])] as const).map((name) => (
          <button type="button" key={name} class={name === memory ? "on" : ""} onClick={() => setMemory(name)}>
            {name} {printBytes(arenas[name])}
          </button>
        ))}
        {kinds.map((kind) => (
          <span key={kind} class="key">
            <i style={{ background: `var(--${kind})` }} /> {kind}
          </span>
        ))}
      </p>
      <canvas
        ref={canvas}
        onMouseMove={(event) => setUnder(at(event))}
        onMouseLeave={() => setUnder(null)}
        onClick={(event) => {
          const found = at(event);
          if (found) onPick(found.name);
        }}
      />
      <p class="axis">
        <span>step 0</span>
        <span>{steps - 1}</span>
      </p>
      <p class="under">
        {under ? (
          <>
            <b>%{under.name}</b> {under.kind}, {printBytes(under.bytes)}, at {under.offset}, steps {under.first} to {under.last}{" "}
            {under.loc}
          </>
        ) : (
          "Point at a rectangle: its height is its bytes, its width the steps it lives through."
        )}
      </p>
    </section>
  );
}

function paint(canvas: HTMLCanvasElement, buffers: readonly ViewBuffer[], steps: number, bytes: number, pick: Pick | null): void {
  const surface = surfaceOf(canvas);
  if (!surface) return;
  const { context, width, height, ratio, color } = surface;
  for (const { kind, first, last, offset, bytes: own, name } of buffers) {
    const x = (first / steps) * width;
    const high = Math.max((own / bytes) * height, 0.5);
    const y = height - (offset / bytes) * height - high;
    const wide = Math.max(((last + 1 - first) / steps) * width, 0.7);
    context.fillStyle = color(kind);
    context.fillRect(x, y, wide, high);
    if (name === pick || (high > 6 && wide > 3)) {
      context.strokeStyle = color(name === pick ? "text" : "back");
      context.lineWidth = name === pick ? 2 * ratio : 0.5 * ratio;
      context.strokeRect(x, y, wide, high);
    }
  }
}
