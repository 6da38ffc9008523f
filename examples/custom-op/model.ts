/** @file A small decoder whose MLPs have an activation of our own. */
import {
  add,
  attention,
  type Batch,
  cross_entropy,
  Embedding,
  Linear,
  type Loss,
  Module,
  matmul,
  merge_heads,
  RMSNorm,
  split_heads,
  type Tensor,
} from "ithaca/nn";
import { squared_relu } from "./squared_relu.ts";

interface Config {
  vocab_size: number;
  width: number;
  layers: number;
  heads: number;
}

class Block extends Module {
  norms: RMSNorm[];
  projections: Linear[];
  out: Linear;
  up: Linear;
  down: Linear;
  heads: number;

  constructor({ width, heads }: Config) {
    super();
    this.norms = [new RMSNorm(width), new RMSNorm(width)];
    this.projections = ["query", "key", "value"].map(() => new Linear(width, width, { bias: false }));
    this.out = new Linear(width, width, { bias: false });
    this.up = new Linear(width, 4 * width);
    this.down = new Linear(4 * width, width);
    this.heads = heads;
  }

  forward(x: Tensor, segments: Tensor): Tensor {
    const seen = this.norms[0].forward(x);
    const [q, k, v] = this.projections.map((own) => split_heads(own.forward(seen), { heads: this.heads }));
    const attended = attention(q, k, v, segments, { scale: q.shape[3] ** -0.5 });
    const h = add(x, this.out.forward(merge_heads(attended)));
    return add(h, this.down.forward(squared_relu(this.up.forward(this.norms[1].forward(h)))));
  }
}

export class Decoder extends Module {
  embedding: Embedding;
  blocks: Block[];
  norm: RMSNorm;

  constructor(config: Config) {
    super();
    this.embedding = new Embedding(config.vocab_size, config.width);
    this.blocks = Array.from({ length: config.layers }, () => new Block(config));
    this.norm = new RMSNorm(config.width);
  }

  forward({ input_ids, labels, segments }: Batch): Loss {
    let x = this.embedding.forward(input_ids);
    for (const block of this.blocks) x = block.forward(x, segments);
    return cross_entropy(matmul(this.norm.forward(x), this.embedding.weight, { transpose_b: true }), labels);
  }
}
