/** @file Small definitions for tests: written into a folder of their own, lowered, their errors read. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll } from "vitest";
import { type LowerOptions, lowerDefinition } from "../../src/frontend/index.ts";
import { formatError, UserError } from "../../src/ir/error.ts";
import type { Graph } from "../../src/ir/graph.ts";

const folder = mkdtempSync(join(tmpdir(), "ithaca-definitions-"));
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;

/** Names that every definition below imports. */
const IMPORTED =
  "add, attention, type Batch, concat, constant, cross_entropy, Embedding, Linear, type Loss, matmul, Module, mul, " +
  "parameter, RMSNorm, scale, silu, split_heads, type Tensor";

/** Parts of a small model: an embedding, what `forward` does to it, a head. */
export interface Parts {
  /** In front of the class. */
  readonly top?: string;
  readonly fields?: string;
  /** The end of the constructor. */
  readonly build?: string;
  /** Statements on `let h: Tensor`, [batch, sequence, width]. */
  readonly forward?: string;
}

export const CONFIG = { width: 8, depth: 3, vocab: 11 };

/** A definition of those parts; the first line is line 1. */
export function definition({ top = "", fields = "", build = "", forward = "" }: Parts): string {
  const lines = [
    `import { ${IMPORTED} } from "ithaca/nn";`,
    top,
    "export class Tiny extends Module {",
    "  embed: Embedding;",
    "  head: Linear;",
    fields,
    "  constructor(config: any) {",
    "    super();",
    "    this.embed = new Embedding(config.vocab, config.width);",
    "    this.head = new Linear(config.width, config.vocab, { bias: false });",
    build && `    ${build}`,
    "  }",
    "  forward({ input_ids, labels, segments }: Batch): Loss {",
    "    let h = this.embed.forward(input_ids);",
    forward && `    ${forward}`,
    "    return cross_entropy(this.head.forward(h), labels);",
    "  }",
    "}",
  ];
  return `${lines.filter((line) => line !== "").join("\n")}\n`;
}

/** Lowers a definition given as text, or as texts by file name, `tiny.ts` being the one lowered. */
export function lowered(
  text: string | Readonly<Record<string, string>>,
  options: Partial<LowerOptions> = {},
): Promise<Graph> {
  const own = join(folder, String(count++));
  const files = typeof text === "string" ? { "tiny.ts": text } : text;
  for (const [name, content] of Object.entries(files)) writeDeep(join(own, name), content);
  return lowerDefinition({
    file: join(own, "tiny.ts"),
    config: CONFIG,
    name: "tiny",
    batch: 1,
    sequence: 4,
    ...options,
  });
}

function writeDeep(path: string, content: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

/** The message with which lowering refuses, as a person reads it. Fails if it doesn't refuse. */
export async function refusal(lowering: Promise<unknown>): Promise<string> {
  try {
    await lowering;
  } catch (error) {
    if (error instanceof UserError) return formatError(error);
    throw error;
  }
  throw new Error("nothing was refused");
}
