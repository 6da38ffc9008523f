/** @file The model families that come with the compiler: their definitions, and Hugging Face's defaults for them. */
import type { Json } from "./json.ts";

export interface Family {
  /** File in src/models. */
  readonly file: string;
  readonly className: string;
  /** What transformers assumes for a key that config.json lacks. */
  readonly defaults: Readonly<Record<string, Json>>;
  readonly ropeTheta: number;
  /** null: hidden_size / num_attention_heads. */
  readonly headDim: number | null;
  /** How `sliding_window` applies: not at all, to all layers, or as `layer_types` says. */
  readonly window: "none" | "all" | "layers";
}

const COMMON = {
  hidden_size: 4096,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  hidden_act: "silu",
  initializer_range: 0.02,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
  attention_dropout: 0,
};

export const families: ReadonlyMap<string, Family> = new Map<string, Family>([
  [
    "llama",
    {
      file: "llama.ts",
      className: "LlamaForCausalLM",
      defaults: {
        ...COMMON,
        vocab_size: 32000,
        intermediate_size: 11008,
        max_position_embeddings: 2048,
        attention_bias: false,
        mlp_bias: false,
      },
      ropeTheta: 10_000,
      headDim: null,
      window: "none",
    },
  ],
  [
    "mistral",
    {
      file: "mistral.ts",
      className: "MistralForCausalLM",
      defaults: {
        ...COMMON,
        vocab_size: 32000,
        intermediate_size: 14336,
        num_key_value_heads: 8,
        max_position_embeddings: 131_072,
        sliding_window: 4096,
      },
      ropeTheta: 10_000,
      headDim: null,
      window: "all",
    },
  ],
  [
    "qwen2",
    {
      file: "qwen2.ts",
      className: "Qwen2ForCausalLM",
      defaults: {
        ...COMMON,
        vocab_size: 151_936,
        intermediate_size: 22016,
        num_key_value_heads: 32,
        max_position_embeddings: 32768,
        use_sliding_window: false,
        sliding_window: 4096,
        max_window_layers: 28,
      },
      ropeTheta: 10_000,
      headDim: null,
      window: "layers",
    },
  ],
  [
    "qwen3",
    {
      file: "qwen3.ts",
      className: "Qwen3ForCausalLM",
      defaults: {
        ...COMMON,
        vocab_size: 151_936,
        intermediate_size: 22016,
        num_key_value_heads: 32,
        max_position_embeddings: 32768,
        attention_bias: false,
        use_sliding_window: false,
        sliding_window: 4096,
        max_window_layers: 28,
      },
      ropeTheta: 10_000,
      headDim: 128,
      window: "layers",
    },
  ],
]);
