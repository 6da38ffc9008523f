/** @file Seconds of what formulas add to a step: transfers that overlap with the kernels, and the optimizer on the host. */
import type { Machine } from "./machines.ts";
import type { Projection } from "./projection.ts";

/** Seconds of one step on each lane, and on the host's processors. */
export interface Loads {
  readonly comm: number;
  readonly to_host: number;
  readonly to_device: number;
  /** After backward, when all gradients are there: nothing runs beside it. */
  readonly host: number;
}

/** AdamW reads weight, gradient and both moments in f32, writes three of them and the weight that products read. */
const ADAMW_BYTES = 4 * 4 + 3 * 4 + 2;

/** `parameters`: elements of all weights. */
export function loadsOf(parameters: number, settings: Projection, machine: Machine): Loads {
  const { ranks, zeroStage, optimizerOffload, parameterOffload, weightBytes } = settings;
  const link = ranks > machine.gpusPerNode ? machine.network : machine.nodeLink;
  const share = parameters / (zeroStage >= 1 ? ranks : 1);
  const gathered = parameters * weightBytes * ((ranks - 1) / ranks);
  const updated = optimizerOffload ? share * weightBytes : 0;
  const fetched = parameterOffload ? (2 * parameters * weightBytes) / (zeroStage === 3 ? ranks : 1) : 0;
  const ranksOfNode = Math.min(ranks, machine.gpusPerNode);
  return {
    // Forward and backward each see every weight once.
    comm: zeroStage === 3 ? (2 * gathered) / link : zeroStage > 0 ? gathered / link : 0,
    to_host: (optimizerOffload ? share * 4 : 0) / machine.hostLink,
    to_device: (updated + fetched) / machine.hostLink,
    host: optimizerOffload ? (share * ADAMW_BYTES * ranksOfNode) / machine.hostBandwidth : 0,
  };
}
