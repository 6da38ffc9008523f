/** @file A Hugging Face directory: which definition it selects, its configuration with defaults, its weights. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { UserError } from "../ir/error.ts";
import { nearest } from "../ir/nearest.ts";
import { type Family, families } from "./families.ts";
import { isObject, type Json, JsonFile, type JsonObject } from "./json.ts";
import { ropeParameters } from "./rope-parameters.ts";

/** All that is known of a model before it is lowered. */
export interface Model {
  /** Path of the definition, and the class in it; null: the default of `lowerDefinition`. */
  readonly file: string;
  readonly className: string | null;
  readonly config: JsonObject;
  /** safetensors files, in order; empty: the weights begin at random. */
  readonly weights: readonly string[];
  /** config.json as it was given; null for a definition of the user's own. */
  readonly configFile: string | null;
  /** Files that belong to the model and are copied beside what is trained: the tokenizer's and others. */
  readonly extraFiles: readonly string[];
  /** null where the configuration doesn't say. */
  readonly vocabularySize: number | null;
}

const MODELS = fileURLToPath(new URL("../../src/models/", import.meta.url));
const EXTRA_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "tokenizer.model",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "chat_template.jinja",
  "generation_config.json",
];
const ACTIVATIONS = new Map([
  ["silu", "silu"],
  ["swish", "silu"],
  ["gelu_pytorch_tanh", "gelu_pytorch_tanh"],
  ["gelu_new", "gelu_pytorch_tanh"],
  ["relu", "relu"],
]);

/** The model that the configuration names: a Hugging Face directory, or a definition with its configuration. */
export function readModel(
  model: string | { readonly source: string; readonly config: JsonObject },
  baseDirectory: string,
): Model {
  if (typeof model === "string") return readModelDirectory(resolve(baseDirectory, model));
  const size = model.config.vocab_size;
  return {
    file: resolve(baseDirectory, model.source),
    className: null,
    config: model.config,
    weights: [],
    configFile: null,
    extraFiles: [],
    vocabularySize: typeof size === "number" ? size : null,
  };
}

/** Reads a directory as `save_pretrained` writes it. Throws a UserError that points into config.json where it can. */
export function readModelDirectory(directory: string): Model {
  if (!existsSync(directory)) {
    throw new UserError(`there is no directory ${directory}`, {
      remedy:
        "`model` is a Hugging Face directory on this machine; `hf download NAME --local-dir DIR` makes one.",
    });
  }
  if (!statSync(directory).isDirectory()) {
    throw new UserError(`${directory} is a file`, {
      remedy: directory.endsWith(".ts")
        ? "Write a definition of your own as: model: { source: my-model.ts, config: { ... } }"
        : "`model` is a Hugging Face directory.",
    });
  }
  const path = join(directory, "config.json");
  if (!existsSync(path)) {
    throw new UserError(`${directory} has no config.json`, {
      remedy: "Is it a Hugging Face model directory?",
    });
  }
  const file = new JsonFile(path);
  const family = familyOf(file);
  const config = completeConfig(file, family);
  return {
    file: join(MODELS, family.file),
    className: family.className,
    config,
    weights: weightFiles(directory),
    configFile: path,
    extraFiles: EXTRA_FILES.map((name) => join(directory, name)).filter((extra) => existsSync(extra)),
    vocabularySize: config.vocab_size as number,
  };
}

function familyOf(file: JsonFile): Family {
  const type = file.value.model_type;
  const own =
    "Any other model can be written as a definition; src/models/llama.ts is one to start from.\n" +
    "model: { source: my-model.ts, config: { ... } }";
  const known = [...families.keys()];
  if (typeof type !== "string") {
    throw file.errorAt(
      ["model_type"],
      "config.json does not say its model_type",
      `Known are ${known.join(", ")}.
${own}`,
    );
  }
  const family = families.get(type);
  if (!family) {
    const near = nearest(type, known);
    const question = near === undefined ? "" : `Did you mean "${near}"? `;
    throw file.errorAt(
      ["model_type"],
      `model_type "${type}" is not known`,
      `${question}Known are ${known.join(", ")}.\n${own}`,
    );
  }
  const { architectures } = file.value;
  if (Array.isArray(architectures) && architectures.length > 0 && !architectures.includes(family.className)) {
    throw file.errorAt(
      ["architectures"],
      `the architecture ${architectures.join(", ")} is not one that can be trained here`,
      `For ${type} it is ${family.className}.`,
    );
  }
  return family;
}

/** The configuration in one form: defaults filled in, `rope_parameters` and `layer_types` as transformers 5 has them. */
function completeConfig(file: JsonFile, family: Family): JsonObject {
  // Hugging Face writes null for "as by default".
  const given = Object.entries(file.value).filter(
    ([key, value]) => value !== null || key === "sliding_window",
  );
  const config: Record<string, Json> = Object.assign(
    Object.create(null),
    family.defaults,
    Object.fromEntries(given),
  );
  refuseUnsupported(file, config);
  const count = (key: string): number => {
    const value = config[key];
    if (typeof value === "number" && Number.isSafeInteger(value) && value > 0) return value;
    throw file.errorAt([key], `${key} must be a whole number of at least 1, not ${JSON.stringify(value)}`);
  };
  const [layers, heads, width] = ["num_hidden_layers", "num_attention_heads", "hidden_size"].map(count);
  for (const key of ["vocab_size", "intermediate_size"]) count(key);
  config.num_key_value_heads ??= heads;
  const kvHeads = count("num_key_value_heads");
  if (heads % kvHeads !== 0) {
    throw file.errorAt(
      ["num_key_value_heads"],
      `${heads} attention heads can't share ${kvHeads} key and value heads evenly`,
      `Make num_key_value_heads a divisor of ${heads}.`,
    );
  }
  if (config.head_dim === undefined && family.headDim === null && width % heads !== 0) {
    throw file.errorAt(
      ["num_attention_heads"],
      `hidden_size ${width} can't be divided into ${heads} heads`,
      "Set head_dim, or change one of them.",
    );
  }
  config.head_dim ??= family.headDim ?? width / heads;
  if (count("head_dim") % 2 !== 0) {
    throw file.errorAt(
      ["head_dim"],
      `head_dim ${config.head_dim} is odd`,
      "Rotary embedding turns pairs of elements.",
    );
  }
  config.rope_parameters = ropeParameters(file, family.ropeTheta);
  if (family.window === "layers") config.layer_types = layerTypes(file, config, layers);
  if (family.window !== "none" && config.sliding_window !== null) count("sliding_window");
  return config;
}

function refuseUnsupported(file: JsonFile, config: Record<string, Json>): void {
  const activation = ACTIVATIONS.get(String(config.hidden_act));
  if (!activation) {
    throw file.errorAt(
      ["hidden_act"],
      `hidden_act ${JSON.stringify(config.hidden_act)} is not supported`,
      `Supported are ${[...ACTIVATIONS.keys()].join(", ")}.`,
    );
  }
  config.hidden_act = activation;
  if (config.attention_dropout !== 0) {
    throw file.errorAt(
      ["attention_dropout"],
      `attention_dropout is ${JSON.stringify(config.attention_dropout)}, but there is no dropout`,
      "Set it to 0.0.",
    );
  }
  if (config.quantization_config !== undefined) {
    throw file.errorAt(
      ["quantization_config"],
      "the weights are quantized",
      "Use the model's unquantized weights, or dequantize them with transformers first.",
    );
  }
}

/** "full_attention" or "sliding_attention" for each layer, as transformers derives it. */
function layerTypes(file: JsonFile, config: Record<string, Json>, layers: number): Json {
  const { sliding_window: window, max_window_layers: whole, layer_types: given } = config;
  const slides = config.use_sliding_window === true && window !== null;
  if (given === undefined) {
    return Array.from({ length: layers }, (_, i) =>
      slides && i >= Number(whole) ? "sliding_attention" : "full_attention",
    );
  }
  const known = ["full_attention", "sliding_attention"];
  if (!Array.isArray(given) || given.length !== layers || given.some((type) => !known.includes(type))) {
    throw file.errorAt(
      ["layer_types"],
      `layer_types must name one of ${known.join(", ")} for each of the ${layers} layers`,
    );
  }
  return slides ? given : given.map(() => "full_attention");
}

/** The safetensors files of a directory; none if it has only a configuration. */
function weightFiles(directory: string): string[] {
  const single = join(directory, "model.safetensors");
  if (existsSync(single)) return [single];
  const index = join(directory, "model.safetensors.index.json");
  if (existsSync(index)) return shards(directory, new JsonFile(index));
  const names = readdirSync(directory);
  const stray = names.filter((name) => name.endsWith(".safetensors"));
  if (stray.length > 0) {
    throw new UserError(
      `${directory} has ${stray.join(", ")} but neither model.safetensors nor model.safetensors.index.json`,
      {
        remedy: "Copy the index beside the weights, or name a single file model.safetensors.",
      },
    );
  }
  if (names.some((name) => /^pytorch_model.*\.bin$/.test(name))) {
    throw new UserError(`${directory} has its weights in PyTorch's pickle format`, {
      remedy: "Load it with transformers and save_pretrained it again: that writes safetensors.",
    });
  }
  return [];
}

function shards(directory: string, index: JsonFile): string[] {
  const { weight_map: map } = index.value;
  if (!isObject(map) || Object.keys(map).length === 0) {
    throw index.errorAt(["weight_map"], "the index has no weight_map from tensors to files");
  }
  const names = [...new Set(Object.values(map))].sort();
  for (const name of names) {
    // A path out of the directory would read, and in the end copy, files that are not the model's.
    if (typeof name !== "string" || !/^[^/\\]+\.safetensors$/.test(name)) {
      throw index.errorAt(
        typeof name === "string" ? [name] : ["weight_map"],
        `${JSON.stringify(name)} is not the name of a safetensors file in this directory`,
      );
    }
  }
  const paths = names.map((name) => join(directory, String(name)));
  const missing = paths.filter((path) => !existsSync(path));
  if (missing.length > 0) {
    throw new UserError(
      `${missing.length} of ${paths.length} weight files are missing, the first ${missing[0]}`,
      {
        location: index.path,
        remedy: "Download them again.",
      },
    );
  }
  return paths;
}
