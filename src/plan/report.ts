/** @file What a plan needs of device and host memory: at the peak by kind and by layer, what is alive there, and over the step. */
import { aligned } from "../ir/plan.ts";
import type { Memory } from "../ir/type.ts";
import { type Part, type ReportKind, reportKinds } from "./anatomy.ts";
import type { Allowance } from "./machines.ts";

/** One of what is alive at the peak. */
export interface Alive {
  readonly name: string;
  readonly kind: ReportKind;
  readonly layer: string;
  readonly bytes: number;
  readonly loc: string;
}

export interface MemoryReport {
  /** Arena and allowances: all that a rank needs of this memory. */
  readonly peakBytes: number;
  /** The step at which most is alive. */
  readonly peakStep: number;
  /** Of what is alive at the peak; with `gapBytes` it adds up to `peakBytes`. */
  readonly byKind: Readonly<Record<ReportKind, number>>;
  /** Bytes of the arena that nothing alive at the peak takes: between buffers, or needed at another step. */
  readonly gapBytes: number;
  /** In the order of the model. */
  readonly byLayer: readonly { readonly layer: string; readonly bytes: number }[];
  /** Largest first. */
  readonly alive: readonly Alive[];
  /** Bytes alive at each step, allowances included. */
  readonly timeline: readonly number[];
}

/** `arenaBytes`: what the placed buffers take, which can be more than is alive at any step. */
export function reportOf(
  parts: readonly Part[],
  memory: Memory,
  steps: number,
  arenaBytes: number,
  allowances: readonly Allowance[] = [],
): MemoryReport {
  const own = parts.filter((part) => part.memory === memory);
  const allowed = allowances.reduce((total, { bytes }) => total + bytes, 0);
  const timeline = aliveBytes(own, steps).map((bytes) => bytes + allowed);
  const peakStep = timeline.reduce((best, bytes, step) => (bytes > timeline[best] ? step : best), 0);
  const alive = own.filter((part) => isAlive(part, peakStep) && part.bytes > 0);
  const byKind = Object.fromEntries(reportKinds.map((kind) => [kind, 0])) as Record<ReportKind, number>;
  byKind.allowance = allowed;
  const byLayer = new Map<string, number>();
  for (const part of own) byLayer.set(part.layer, byLayer.get(part.layer) ?? 0);
  for (const part of alive) {
    const bytes = aligned(part.bytes);
    byKind[part.kind] += bytes;
    byLayer.set(part.layer, (byLayer.get(part.layer) as number) + bytes);
  }
  const peakBytes = arenaBytes + allowed;
  return {
    peakBytes,
    peakStep,
    byKind,
    gapBytes: peakBytes - (timeline[peakStep] ?? allowed),
    byLayer: [...byLayer].map(([layer, bytes]) => ({ layer, bytes })).filter(({ bytes }) => bytes > 0),
    alive: alive
      .map(({ name, kind, layer, bytes, loc }) => ({ name, kind, layer, bytes: aligned(bytes), loc }))
      .sort((a, b) => b.bytes - a.bytes),
    timeline,
  };
}

function isAlive({ persistent, first, last }: Part, step: number): boolean {
  return persistent || (first <= step && step <= last);
}

/** Bytes alive at each step. */
export function aliveBytes(parts: readonly Part[], steps: number): number[] {
  const change = new Array<number>(steps + 1).fill(0);
  let alive = 0;
  for (const { persistent, first, last, bytes } of parts) {
    if (persistent) alive += aligned(bytes);
    else {
      change[first] += aligned(bytes);
      change[last + 1] -= aligned(bytes);
    }
  }
  return Array.from({ length: steps }, (_, step) => {
    alive += change[step];
    return alive;
  });
}
