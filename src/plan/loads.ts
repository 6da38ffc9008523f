/** @file Seconds of what formulas add to a step: transfers that overlap with the kernels, and the optimizer's. */
import type { Machine } from "./machines.ts";
import type { Projection } from "./projection.ts";

/** Seconds of one step on each lane, and behind them. */
export interface Loads {
  readonly comm: number;
  readonly to_host: number;
  readonly to_device: number;
  /** AdamW's way over the bus after backward, when all gradients are there: nothing runs beside it. */
  readonly update: number;
}

/** `parameters`: elements of all weights. */
export function loadsOf(parameters: number, settings: Projection, machine: Machine): Loads {
  const { ranks, zeroStage, parameterOffload, weightBytes } = settings;
  const link = ranks > machine.gpusPerNode ? machine.network : machine.nodeLink;
  const share = parameters / (zeroStage >= 1 ? ranks : 1);
  const gathered = parameters * weightBytes * ((ranks - 1) / ranks);
  const fetched = parameterOffload ? (2 * parameters * weightBytes) / (zeroStage === 3 ? ranks : 1) : 0;
  // Both ways: weights and gradients where they are in host memory.
  const updating = parameterOffload ? 3 * 4 : 0;
  return {
    // Forward and backward each see every weight once.
    comm: zeroStage === 3 ? (2 * gathered) / link : zeroStage > 0 ? gathered / link : 0,
    to_host: parameterOffload ? (share * 4) / machine.hostLink : 0,
    to_device: fetched / machine.hostLink,
    update: (share * updating) / machine.hostLink,
  };
}
