/** @file Llama (Touvron et al. 2023, arXiv:2302.13971; Llama 3, arXiv:2407.21783), as in Hugging Face transformers. */
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
  merge_heads,
  mul,
  RMSNorm,
  relu,
  rope,
  rope_table,
  split_heads,
  swiglu,
  type Tensor,
} from "ithaca/nn";

/** The keys of config.json that are read here. */
export interface LlamaConfig {
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  hidden_act: string;
  rms_norm_eps: number;
  rope_parameters: RopeParameters;
  attention_bias?: boolean;
  mlp_bias?: boolean;
  tie_word_embeddings?: boolean;
}

export interface RopeParameters {
  rope_type: "default" | "linear" | "llama3";
  rope_theta: number;
  factor?: number;
  low_freq_factor?: number;
  high_freq_factor?: number;
  original_max_position_embeddings?: number;
}

/** What all layers share: the tables of the rotary embedding, and which document each token belongs to. */
export interface Context {
  cos: Tensor;
  sin: Tensor;
  segments: Tensor;
}

export interface AttentionOptions {
  /** Biases of the projections to q, k and v. */
  bias?: boolean;
  /** Bias of the projection to the output. */
  output_bias?: boolean;
  /** How many tokens a query sees, itself included; 0: all before it. */
  window?: number;
}

export class LlamaAttention extends Module {
  q_proj: Linear;
  k_proj: Linear;
  v_proj: Linear;
  o_proj: Linear;
  heads: number;
  kv_heads: number;
  scale: number;
  window: number;

  constructor(config: LlamaConfig, { bias = false, output_bias = false, window = 0 }: AttentionOptions) {
    super();
    const { hidden_size, head_dim, num_attention_heads, num_key_value_heads } = config;
    this.q_proj = new Linear(hidden_size, num_attention_heads * head_dim, { bias });
    this.k_proj = new Linear(hidden_size, num_key_value_heads * head_dim, { bias });
    this.v_proj = new Linear(hidden_size, num_key_value_heads * head_dim, { bias });
    this.o_proj = new Linear(num_attention_heads * head_dim, hidden_size, { bias: output_bias });
    this.heads = num_attention_heads;
    this.kv_heads = num_key_value_heads;
    this.scale = head_dim ** -0.5;
    this.window = window;
  }

  /** q and k before they are turned: [batch, sequence, heads, head_dim]. */
  queries(x: Tensor): Tensor {
    return split_heads(this.q_proj.forward(x), { heads: this.heads });
  }

  keys(x: Tensor): Tensor {
    return split_heads(this.k_proj.forward(x), { heads: this.kv_heads });
  }

  forward(x: Tensor, { cos, sin, segments }: Context): Tensor {
    const q = rope(this.queries(x), cos, sin);
    const k = rope(this.keys(x), cos, sin);
    const v = split_heads(this.v_proj.forward(x), { heads: this.kv_heads });
    const out = attention(q, k, v, segments, { scale: this.scale, window: this.window });
    return this.o_proj.forward(merge_heads(out));
  }
}

export class LlamaMLP extends Module {
  gate_proj: Linear;
  up_proj: Linear;
  down_proj: Linear;
  hidden_act: string;

  constructor({ hidden_size, intermediate_size, hidden_act, mlp_bias = false }: LlamaConfig) {
    super();
    this.gate_proj = new Linear(hidden_size, intermediate_size, { bias: mlp_bias });
    this.up_proj = new Linear(hidden_size, intermediate_size, { bias: mlp_bias });
    this.down_proj = new Linear(intermediate_size, hidden_size, { bias: mlp_bias });
    this.hidden_act = hidden_act;
  }

  forward(x: Tensor): Tensor {
    const gate = this.gate_proj.forward(x);
    const up = this.up_proj.forward(x);
    return this.down_proj.forward(this.activate(gate, up));
  }

  activate(gate: Tensor, up: Tensor): Tensor {
    switch (this.hidden_act) {
      case "silu":
        return swiglu(gate, up);
      case "gelu_pytorch_tanh":
        return mul(gelu(gate), up);
      case "relu":
        return mul(relu(gate), up);
      default:
        throw new Error(`hidden_act "${this.hidden_act}" is none of silu, gelu_pytorch_tanh, relu`);
    }
  }
}

export class LlamaDecoderLayer extends Module {
  self_attn: LlamaAttention;
  mlp: LlamaMLP;
  input_layernorm: RMSNorm;
  post_attention_layernorm: RMSNorm;

  constructor(config: LlamaConfig, self_attn: LlamaAttention) {
    super();
    this.self_attn = self_attn;
    this.mlp = new LlamaMLP(config);
    this.input_layernorm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
    this.post_attention_layernorm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
  }

  forward(x: Tensor, context: Context): Tensor {
    const h = add(x, this.self_attn.forward(this.input_layernorm.forward(x), context));
    return add(h, this.mlp.forward(this.post_attention_layernorm.forward(h)));
  }
}

export class LlamaModel extends Module {
  embed_tokens: Embedding;
  layers: LlamaDecoderLayer[];
  norm: RMSNorm;
  rope_parameters: RopeParameters;
  head_dim: number;

  /** `attentionOf(i)` makes the attention of layer i. */
  constructor(config: LlamaConfig, attentionOf: (layer: number) => LlamaAttention) {
    super();
    this.embed_tokens = new Embedding(config.vocab_size, config.hidden_size);
    this.layers = Array.from(
      { length: config.num_hidden_layers },
      (_, i) => new LlamaDecoderLayer(config, attentionOf(i)),
    );
    this.norm = new RMSNorm(config.hidden_size, config.rms_norm_eps);
    this.rope_parameters = config.rope_parameters;
    this.head_dim = config.head_dim;
  }

  forward({ input_ids, position_ids, segments }: Batch): Tensor {
    const { rope_type, rope_theta, ...scaling } = this.rope_parameters;
    const { cos, sin } = rope_table(position_ids, {
      head_dim: this.head_dim,
      theta: rope_theta,
      scaling: rope_type === "default" ? "none" : rope_type,
      factor: scaling.factor,
      low_freq_factor: scaling.low_freq_factor,
      high_freq_factor: scaling.high_freq_factor,
      original_max_position: scaling.original_max_position_embeddings,
    });
    let h = this.embed_tokens.forward(input_ids);
    for (const layer of this.layers) h = layer.forward(h, { cos, sin, segments });
    return this.norm.forward(h);
  }
}

export class LlamaForCausalLM extends Module {
  model: LlamaModel;
  lm_head: Linear;

  constructor(config: LlamaConfig, attentionOf?: (layer: number) => LlamaAttention) {
    super();
    const { attention_bias: bias = false } = config;
    this.model = new LlamaModel(
      config,
      attentionOf ?? (() => new LlamaAttention(config, { bias, output_bias: bias })),
    );
    this.lm_head = new Linear(config.hidden_size, config.vocab_size, { bias: false });
    if (config.tie_word_embeddings) this.lm_head.weight = this.model.embed_tokens.weight;
  }

  forward(batch: Batch): Loss {
    const logits = this.lm_head.forward(this.model.forward(batch));
    return cross_entropy(logits, batch.labels);
  }
}
