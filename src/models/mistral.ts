/** @file Mistral (Jiang et al. 2023, arXiv:2310.06825): Llama with attention to a sliding window. */
import { LlamaAttention, type LlamaConfig, LlamaForCausalLM } from "./llama.ts";

export interface MistralConfig extends LlamaConfig {
  /** How many tokens a query sees, itself included; null: all before it. */
  sliding_window: number | null;
}

export class MistralForCausalLM extends LlamaForCausalLM {
  constructor(config: MistralConfig) {
    super(config, () => new LlamaAttention(config, { window: config.sliding_window ?? 0 }));
  }
}
