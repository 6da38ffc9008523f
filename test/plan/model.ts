/** @file A model directory to plan: the shape of a small Llama, without weights. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Four heads, two key heads, a hidden size of 64, unless `shape` says otherwise. Returns the folder. */
export function writeLlama(
  folder: string,
  shape: { readonly num_hidden_layers: number; readonly [key: string]: number },
): string {
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, "config.json"),
    JSON.stringify({
      ...{ architectures: ["LlamaForCausalLM"], model_type: "llama", hidden_act: "silu", rms_norm_eps: 1e-5 },
      ...{ hidden_size: 64, num_attention_heads: 4, num_key_value_heads: 2 },
      ...{ intermediate_size: 128, vocab_size: 64, rope_theta: 10000, tie_word_embeddings: true },
      ...shape,
    }),
  );
  return folder;
}
