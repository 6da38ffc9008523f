/** @file The frontend's door: model definitions and Hugging Face directories become graphs. */
import type { Graph } from "../ir/graph.ts";
import type { LowerOptions } from "./lower.ts";

export { type Model, readModel, readModelDirectory } from "./huggingface.ts";
export type { LowerOptions } from "./lower.ts";

/**
 * Lowers a model definition to a graph in f32: inputs `input_ids`, `labels`, `position_ids` and `segments`, parameters
 * named by their paths, outputs `loss_sum` and `loss_count`, equal layers rolled up in `repeat`. The definition is read
 * and partially evaluated, never executed. Throws a UserError with the place in the definition.
 */
export async function lowerDefinition(options: LowerOptions): Promise<Graph> {
  // TypeScript takes half a second to load; whoever doesn't lower doesn't wait for it.
  const { lower } = await import("./lower.ts");
  return lower(options);
}
