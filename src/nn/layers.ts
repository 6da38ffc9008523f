/** @file Layers that hold parameters, as ordinary definitions. */
// With .js, which TypeScript takes without a setting: users' editors read this file.
import { Module, parameter } from "./module.js";
import { add, embedding, matmul, rms_norm } from "./ops.js";
import type { Tensor } from "./tensor.js";

/** x weight^T + bias: [..., in_features] to [..., out_features]. */
export class Linear extends Module {
  weight: Tensor;
  bias: Tensor | undefined;

  constructor(
    in_features: number,
    out_features: number,
    { bias = true }: { bias?: boolean | undefined } = {},
  ) {
    super();
    this.weight = parameter([out_features, in_features]);
    if (bias) this.bias = parameter([out_features], "zeros");
  }

  forward(x: Tensor): Tensor {
    const y = matmul(x, this.weight, { transpose_b: true });
    return this.bias ? add(y, this.bias) : y;
  }
}

/** The row of a table for each id: [...] to [..., width]. */
export class Embedding extends Module {
  weight: Tensor;

  constructor(count: number, width: number) {
    super();
    this.weight = parameter([count, width]);
  }

  forward(ids: Tensor): Tensor {
    return embedding(ids, this.weight);
  }
}

/** x / sqrt(mean(x^2) + epsilon) * weight over the last dimension. */
export class RMSNorm extends Module {
  weight: Tensor;
  epsilon: number;

  constructor(width: number, epsilon = 1e-6) {
    super();
    this.weight = parameter([width], "ones");
    this.epsilon = epsilon;
  }

  forward(x: Tensor): Tensor {
    return rms_norm(x, this.weight, { epsilon: this.epsilon });
  }
}
