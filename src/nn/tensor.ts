/** @file The values that a model computes with. */

declare const brand: unique symbol;

/**
 * Numbers laid out in `shape`. Sizes are known when a model is compiled, elements are not: arithmetic on tensors is
 * written with ops, `add(a, b)` and not `a + b`, and no condition can depend on an element.
 */
export interface Tensor {
  readonly shape: readonly number[];
  readonly [brand]: "tensor";
}

/** What `forward` of a whole model is given: integers of [batch, sequence]. */
export interface Batch {
  readonly input_ids: Tensor;
  /** The token that follows, already shifted; -100 where there is nothing to predict. */
  readonly labels: Tensor;
  /** 0, 1, 2 ... from the beginning of each document. */
  readonly position_ids: Tensor;
  /** The number of the document that a token belongs to; attention stays inside it. */
  readonly segments: Tensor;
}

/** What `forward` of a whole model returns: the loss summed over the labelled tokens, and how many there are. */
export interface Loss {
  readonly sum: Tensor;
  readonly count: Tensor;
}
