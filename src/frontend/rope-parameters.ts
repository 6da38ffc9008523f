/** @file Rotary embedding in config.json: `rope_theta` and `rope_scaling`, or `rope_parameters` since transformers 5. */
import { isObject, type JsonFile, type JsonObject } from "./json.ts";

/** The numbers that each type of scaling needs. */
const NEEDED: Readonly<Record<string, readonly string[]>> = {
  default: [],
  linear: ["factor"],
  llama3: ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
};

/** The configuration as `rope_parameters`, whichever form the file has. Refuses scaling that is not supported. */
export function ropeParameters(file: JsonFile, theta: number): JsonObject {
  const config = file.value;
  const section = isObject(config.rope_parameters) ? "rope_parameters" : "rope_scaling";
  const given = config[section] ?? {};
  if (!isObject(given)) throw file.errorAt([section], `${section} must be an object or null`);
  const type = given.rope_type ?? given.type ?? "default";
  const needed = typeof type === "string" && Object.hasOwn(NEEDED, type) ? NEEDED[type] : undefined;
  if (!needed) {
    throw file.errorAt(
      [section],
      `rotary embedding of type ${JSON.stringify(type)} is not supported`,
      "The types are default, linear and llama3. To train without it, remove it and keep to the sequence length " +
        "for which the model was trained; or write a definition of your own (see src/models/llama.ts).",
    );
  }
  const parameters: Record<string, string | number> = {
    rope_type: type as string,
    rope_theta: positive(file, [section, "rope_theta"], given.rope_theta ?? config.rope_theta ?? theta),
  };
  for (const name of needed) {
    if (given[name] === undefined) {
      throw file.errorAt(
        [section],
        `rotary embedding of type "${type}" needs ${name}`,
        `It needs ${needed.join(", ")}.`,
      );
    }
    parameters[name] = positive(file, [section, name], given[name]);
  }
  const partial = given.partial_rotary_factor ?? config.partial_rotary_factor ?? 1;
  if (partial !== 1) {
    throw file.errorAt(
      ["partial_rotary_factor"],
      `partial_rotary_factor is ${JSON.stringify(partial)}, but only whole heads can be turned`,
      "Write a definition of your own (see src/models/llama.ts).",
    );
  }
  return parameters;
}

function positive(file: JsonFile, keys: readonly string[], value: unknown): number {
  if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
  throw file.errorAt(
    keys.slice(-1),
    `${keys.at(-1)} must be a number greater than 0, not ${JSON.stringify(value)}`,
  );
}
