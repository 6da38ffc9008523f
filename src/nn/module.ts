/** @file Modules and parameters. */
import type { Tensor } from "./tensor.ts";

/**
 * A part of a model: parameters, other modules and lists of them in its fields, and a method `forward`. The path of
 * fields from the whole model to a parameter is the parameter's name: `model.layers.0.mlp.up_proj.weight`.
 */
export class Module {}

/**
 * How a parameter begins when no file gives it. "normal" draws from a normal distribution with the standard deviation
 * `initializer_range` of the configuration (0.02 where it has none), "normal 0.1" with the one named.
 */
export type Init = "normal" | "zeros" | "ones" | `normal ${number}`;

/** A weight of the model, to be kept in a field of a module. Two fields that hold the same one share it. */
export declare function parameter(shape: readonly number[], init?: Init): Tensor;
