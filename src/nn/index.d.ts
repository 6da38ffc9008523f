/** @file What a model definition may import from "ithaca/nn". */
export * from "./layers.ts";
export * from "./module.ts";
export * from "./ops.ts";
export * from "./tensor.ts";
