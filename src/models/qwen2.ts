/** @file Qwen2 (Yang et al. 2024, arXiv:2407.10671): Llama with biases on q, k and v, and windows on some layers. */
import { LlamaAttention, type LlamaConfig, LlamaForCausalLM } from "./llama.ts";

export interface Qwen2Config extends LlamaConfig {
  /** For each layer "full_attention" or "sliding_attention". */
  layer_types: string[];
  sliding_window: number | null;
}

/** The window of layer `i`; 0 where it sees all tokens before it. */
export function windowOf({ layer_types, sliding_window }: Qwen2Config, i: number): number {
  return layer_types[i] === "sliding_attention" ? (sliding_window ?? 0) : 0;
}

export class Qwen2ForCausalLM extends LlamaForCausalLM {
  constructor(config: Qwen2Config) {
    super(config, (i) => new LlamaAttention(config, { bias: true, window: windowOf(config, i) }));
  }
}
