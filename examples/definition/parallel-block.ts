/** @file A decoder of our own: attention and MLP side by side on one norm, as in PaLM (Chowdhery et al. 2022). */
import {
  add,
  attention,
  type Batch,
  cross_entropy,
  Embedding,
  gelu,
  Linear,
  type Loss,
  Module,
  matmul,
  merge_heads,
  RMSNorm,
  rope,
  rope_table,
  split_heads,
  type Tensor,
} from "ithaca/nn";

interface Config {
  vocab_size: number;
  width: number;
  layers: number;
  heads: number;
}

class ParallelBlock extends Module {
  norm: RMSNorm;
  query: Linear;
  key_value: Linear[];
  out: Linear;
  up: Linear;
  down: Linear;
  heads: number;

  constructor({ width, heads }: Config) {
    super();
    const head_dim = width / heads;
    this.norm = new RMSNorm(width);
    this.query = new Linear(width, width, { bias: false });
    // One key and one value head for all query heads (Shazeer 2019).
    this.key_value = ["key", "value"].map(() => new Linear(width, head_dim, { bias: false }));
    this.out = new Linear(width, width, { bias: false });
    this.up = new Linear(width, 4 * width);
    this.down = new Linear(4 * width, width);
    this.heads = heads;
  }

  forward(x: Tensor, cos: Tensor, sin: Tensor, segments: Tensor): Tensor {
    const h = this.norm.forward(x);
    const q = rope(split_heads(this.query.forward(h), { heads: this.heads }), cos, sin);
    const [k, v] = this.key_value.map((projection) => split_heads(projection.forward(h), { heads: 1 }));
    const scale = q.shape[3] ** -0.5;
    const seen = this.out.forward(merge_heads(attention(q, rope(k, cos, sin), v, segments, { scale })));
    const thought = this.down.forward(gelu(this.up.forward(h)));
    return add(x, add(seen, thought));
  }
}

export class ParallelDecoder extends Module {
  embedding: Embedding;
  blocks: ParallelBlock[];
  norm: RMSNorm;
  head_dim: number;

  constructor(config: Config) {
    super();
    if (config.width % config.heads !== 0)
      throw new Error(`${config.heads} heads do not divide ${config.width}`);
    this.embedding = new Embedding(config.vocab_size, config.width);
    this.blocks = Array.from({ length: config.layers }, () => new ParallelBlock(config));
    this.norm = new RMSNorm(config.width);
    this.head_dim = config.width / config.heads;
  }

  forward({ input_ids, labels, position_ids, segments }: Batch): Loss {
    const { cos, sin } = rope_table(position_ids, { head_dim: this.head_dim });
    let x = this.embedding.forward(input_ids);
    for (const block of this.blocks) x = block.forward(x, cos, sin, segments);
    // The table that reads the tokens also scores them.
    const logits = matmul(this.norm.forward(x), this.embedding.weight, { transpose_b: true });
    return cross_entropy(logits, labels);
  }
}
