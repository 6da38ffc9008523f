/** @file Qwen3 (Yang et al. 2025, arXiv:2505.09388): Llama with a norm on each head of q and k. */
import { RMSNorm, type Tensor } from "ithaca/nn";
import { type AttentionOptions, LlamaAttention, LlamaForCausalLM } from "./llama.ts";
import { type Qwen2Config, windowOf } from "./qwen2.ts";

export class Qwen3Attention extends LlamaAttention {
  q_norm: RMSNorm;
  k_norm: RMSNorm;

  constructor(config: Qwen2Config, options: AttentionOptions) {
    super(config, options);
    this.q_norm = new RMSNorm(config.head_dim, config.rms_norm_eps);
    this.k_norm = new RMSNorm(config.head_dim, config.rms_norm_eps);
  }

  override queries(x: Tensor): Tensor {
    return this.q_norm.forward(super.queries(x));
  }

  override keys(x: Tensor): Tensor {
    return this.k_norm.forward(super.keys(x));
  }
}

export class Qwen3ForCausalLM extends LlamaForCausalLM {
  constructor(config: Qwen2Config) {
    const { attention_bias: bias = false } = config;
    super(
      config,
      (i) => new Qwen3Attention(config, { bias, output_bias: bias, window: windowOf(config, i) }),
    );
  }
}
