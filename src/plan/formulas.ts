/**
 * @file What settings that no pass builds yet would do to a plan, by formula: ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054)
 * and the offload of weights. Buffers of the real schedule become smaller, shorter-lived, or the host's.
 *
 * When a pass lands, its setting stops being refused by the compiler and the plan is the pass's own: then its formula goes.
 */
import type { Anatomy, Part, Run } from "./anatomy.ts";
import type { Projection } from "./projection.ts";

/** The buffers of `anatomy` under the settings. */
export function projected(anatomy: Anatomy, settings: Projection): readonly Part[] {
  const weights = shareWeights(anatomy.parts, anatomy, settings);
  return shareGradients(shareStates(weights, settings), anatomy, settings);
}

/** Where in `runs` a step is; -1 for the optimizer's steps. */
function runIndexes({ runs, plan }: Anatomy): Int32Array {
  const at = new Int32Array(plan.steps.length).fill(-1);
  runs.forEach(({ first, last }, i) => {
    at.fill(i, first, last + 1);
  });
  return at;
}

/**
 * Pieces of `part` for each run that touches it: alive from the beginning of the run before, when it is fetched, to its last
 * touch in the run.
 */
function fetched(part: Part, runs: readonly Run[], runAt: Int32Array, bytes: number): Part[] {
  const lastTouch = new Map<number, number>();
  for (const step of part.touches) if (runAt[step] >= 0) lastTouch.set(runAt[step], step);
  return [...lastTouch].map(([run, last]) => ({
    ...part,
    bytes,
    persistent: false,
    memory: "device",
    layer: runs[run].layer,
    first: runs[Math.max(0, run - 1)].first,
    last,
  }));
}

/** f32 weights, the weights that are computed with, and their casts. */
function shareWeights(parts: readonly Part[], anatomy: Anatomy, settings: Projection): readonly Part[] {
  const { zeroStage, parameterOffload, ranks, weightBytes } = settings;
  if (zeroStage === 0 && !parameterOffload) return parts;
  const runAt = runIndexes(anatomy);
  const isApart = (zeroStage === 3 && ranks > 1) || parameterOffload;
  /** Whether weights lie ready in the precision of the products, whole, beside the shares that the optimizer updates. */
  const hasCopy = !isApart && ranks > 1;
  return parts.flatMap((part): Part[] => {
    if (part.isCast) {
      if (isApart) return fetched(part, anatomy.runs, runAt, part.bytes);
      return hasCopy ? [] : [part];
    }
    if (part.kind !== "parameters" || !part.persistent) return [part];
    const own: Part = {
      ...part,
      bytes: Math.ceil(part.bytes / (zeroStage >= 1 ? ranks : 1)),
      memory: parameterOffload ? "host" : part.memory,
    };
    const inProducts = (part.bytes / 4) * weightBytes;
    const copy: Part = { ...part, name: `${part.name} (copy)`, bytes: inProducts };
    const touches = part.touches.filter((step) => anatomy.plan.steps[step].node.op !== "cast");
    const isReadDirectly = touches.some((step) => runAt[step] >= 0);
    return [
      own,
      ...(hasCopy ? [copy] : []),
      ...(isApart && isReadDirectly ? fetched({ ...part, touches }, anatomy.runs, runAt, inProducts) : []),
    ];
  });
}

/** The optimizer's moments. */
function shareStates(parts: readonly Part[], { zeroStage, ranks }: Projection): readonly Part[] {
  if (zeroStage === 0) return parts;
  return parts.map((part) =>
    part.kind === "optimizer" ? { ...part, bytes: Math.ceil(part.bytes / ranks) } : part,
  );
}

/** Gradients: whole while their layer runs backward, then each rank's share. */
function shareGradients(
  parts: readonly Part[],
  anatomy: Anatomy,
  { zeroStage, parameterOffload, ranks, accumulates }: Projection,
): readonly Part[] {
  if (zeroStage < 2 && !parameterOffload) return parts;
  const runAt = runIndexes(anatomy);
  return parts.flatMap((part): Part[] => {
    if (part.kind !== "gradients") return [part];
    const share: Part = {
      ...part,
      bytes: Math.ceil(part.bytes / (zeroStage >= 2 ? ranks : 1)),
      memory: parameterOffload ? "host" : part.memory,
    };
    // With accumulation these are the sums over micro batches; what one of them makes is whole in a buffer of its own.
    if (accumulates) return [share];
    const made = part.touches.filter((step) => runAt[step] >= 0).at(-1) ?? part.last;
    const whole: Part = { ...part, last: Math.min(part.last, anatomy.runs[runAt[made]]?.last ?? made) };
    const isShared = zeroStage >= 2 && ranks > 1;
    return isShared || parameterOffload ? [whole, share] : [part];
  });
}
