/** @file A compiled program inside this process: step it off the main thread, see its tensors without copying. */
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { buildAddon, type Report } from "../codegen/build.ts";
import { UserError } from "../ir/error.ts";

export interface TensorInfo {
  /** Hugging Face's name for a parameter; "adamw.m.<parameter>" for a state; "input_ids", "loss" ... otherwise. */
  readonly name: string;
  readonly role: "input" | "parameter" | "state" | "output";
  readonly dtype: "f32" | "bf16" | "i32";
  readonly memory: "device" | "host";
  /** Global sizes. */
  readonly shape: readonly number[];
  /** Sizes of one rank's part. */
  readonly share: readonly number[];
  /** Mesh axes that each dimension is split over, joined by ","; "" for a whole one. */
  readonly axes: readonly string[];
  /** Members stored one after the other, such as the micro batches of an input. */
  readonly times: number;
}

/** The memory of a tensor: f32, i32, and the bits of bf16. `times` members of `share`, row-major. */
export type TensorView = Float32Array | Int32Array | Uint16Array;

export interface Program {
  readonly name: string;
  readonly hash: string;
  readonly ranks: number;
  /** Of one step of all ranks: causal, without recompute. */
  readonly modelFlops: number;
  readonly deviceBytes: number;
  readonly hostBytes: number;
  readonly fileBytes: number;
  readonly axes: readonly { readonly name: string; readonly degree: number }[];
  readonly tensors: readonly TensorInfo[];
  /**
   * The program's own memory, not a copy. Empty after `close`. Throws for an unknown name, and for weights and states on
   * a GPU: those are only read and written.
   */
  view(name: string, rank?: number): TensorView;
  /** A copy of a tensor's share, wherever it is. Throws for an unknown name, and while a step is under way. */
  read(name: string, rank?: number): TensorView;
  /** Gives a tensor's share new contents: an array of as many bytes. Throws as `read` does. */
  write(name: string, values: TensorView, rank?: number): void;
  /** Sets parameters from safetensors files, or to their initial values where there are none; clears the states. */
  load(options?: { readonly weights?: readonly string[]; readonly seed?: number }): Promise<void>;
  /** One optimizer step on what the inputs hold. Rejects if another step is under way. */
  step(): Promise<{ readonly seconds: number }>;
  close(): void;
}

export interface OpenOptions {
  /** OpenMP threads of each rank; 1 unless given. */
  readonly threads?: number;
  /** Ranks, run as threads of this process: the number that the program was compiled for. */
  readonly ranks?: number;
  /** The folder of the ranks' files, where the program has any. */
  readonly hostSpill?: string;
  /** Told when the addon has to be compiled first. */
  readonly report?: Report;
}

/** Loads a program.so that `buildProgram` made. Throws UserError, BuildError. */
export async function openProgram(path: string, options: OpenOptions = {}): Promise<Program> {
  const { report, ...open } = options;
  const addon = createRequire(import.meta.url)(await buildAddon(report)) as {
    open(path: string, options: Omit<OpenOptions, "report">): Program;
  };
  try {
    return addon.open(resolve(path), open);
  } catch (error) {
    throw new UserError(error instanceof Error ? error.message : String(error), { location: path });
  }
}
