/** @file What the page of `ithaca view` shows, as it stands in the page: numbers and text, every list in order. */
import type { BufferKind, Lane } from "../ir/plan.ts";
import type { Memory } from "../ir/type.ts";

export interface ViewNode {
  readonly op: string;
  /** As the IR prints them, " axis=sp from=1 to=2". */
  readonly attrs: string;
  readonly operands: readonly string[];
  readonly results: readonly { readonly name: string; readonly type: string }[];
  /** Line of the model; "" where there is none. */
  readonly loc: string;
  readonly flops: number;
  readonly bytes: number;
  /** Statements of the body, as the IR prints them. */
  readonly body: readonly string[];
}

/** Nodes that belong together: those of one layer, or of neighbouring layers that are alike. */
export interface ViewBlock {
  /** "layers.1 - layers.78" */
  readonly title: string;
  readonly phase: "forward" | "backward" | "optimizer";
  /** How many alike it stands for; its nodes are those of the first. */
  readonly times: number;
  readonly nodes: readonly ViewNode[];
}

export interface ViewStage {
  readonly pass: string;
  readonly summary: string;
  readonly milliseconds: number;
  readonly nodes: number;
  /** Lines of a unified diff to the stage before, cut where it is very long. */
  readonly diff: readonly string[];
  readonly blocks: readonly ViewBlock[];
}

export interface ViewStep {
  readonly name: string;
  readonly op: string;
  readonly lane: Lane;
  readonly layer: string;
  readonly loc: string;
  /** Predicted, in seconds from the beginning of the step. */
  readonly begin: number;
  readonly end: number;
}

export interface ViewBuffer {
  readonly name: string;
  readonly kind: BufferKind;
  readonly memory: Memory;
  readonly bytes: number;
  readonly offset: number;
  readonly first: number;
  readonly last: number;
  readonly loc: string;
}

/** What a step took when it was run; `lane` and `rank` say where. */
export interface ViewSpan {
  readonly rank: number;
  readonly lane: string;
  readonly name: string;
  readonly begin: number;
  readonly end: number;
}

export interface ViewData {
  readonly title: string;
  /** "Llama 1.2B, 8 ranks, bf16, 131072 tokens". */
  readonly about: string;
  /** Weights by their module, with their types. */
  readonly modules: readonly { readonly name: string; readonly type: string }[];
  readonly stages: readonly ViewStage[];
  readonly plan: {
    readonly deviceBytes: number;
    readonly hostBytes: number;
    readonly fileBytes: number;
    readonly seconds: number;
    /** The machine that times were predicted for. */
    readonly machine: string;
    readonly steps: readonly ViewStep[];
    readonly buffers: readonly ViewBuffer[];
  };
  readonly trace: readonly ViewSpan[];
}
