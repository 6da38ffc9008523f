/** @file The settings that formulas stand in for until a pass does them. */

/** What is asked of the formulas; everything off is the plan as it is. */
export interface Projection {
  /** Ranks that share weights, gradients and optimizer state. */
  readonly ranks: number;
  readonly zeroStage: number;
  readonly parameterOffload: boolean;
  /** Bytes of an element of a weight where it is computed with. */
  readonly weightBytes: 2 | 4;
  /** Whether gradients are summed over micro batches. */
  readonly accumulates: boolean;
}

/** A setting that was counted by formula, and what was assumed. */
export interface Assumption {
  readonly setting: string;
  readonly says: string;
}

const zeroSays = [
  "",
  "f32 weights and optimizer state are shared by all ranks",
  "f32 weights, gradients and optimizer state are shared by all ranks; a gradient is whole until its layer's backward ends",
  "weights, gradients and optimizer state are shared by all ranks; weights are whole from the layer before on, a gradient until its layer's backward ends",
];

export function assumptionsOf(settings: Projection): Assumption[] {
  const { zeroStage, parameterOffload } = settings;
  const all: readonly [setting: string, isOn: boolean, says: string][] = [
    ["parallel.zero_stage", zeroStage > 0, zeroSays[zeroStage]],
    [
      "memory.parameter_offload",
      parameterOffload,
      "weights and gradients are in host memory; those of the layer at work, and the weights of the next one, on the device",
    ],
  ];
  return all.filter(([, isOn]) => isOn).map(([setting, , says]) => ({ setting, says }));
}
