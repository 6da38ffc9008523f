/** @file Turns documents into token ids with a Hugging Face tokenizer, a piece of the text at a time. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import { UserError } from "../ir/error.ts";

/** Characters that are encoded in one call: enough to make cuts rare, few enough to bound time and memory. */
const pieceLength = 16_384;

/** Characters on either side of a cut that are encoded to see whether it changes anything. */
const windowLength = 128;

/** Where a text may be cut: `drop` ids at the start of what follows are not the text's own. */
interface Cut {
  readonly at: number;
  readonly drop: number;
}

/**
 * Encodes one document after the other. Long texts are cut at line ends and spaces, and only where encoding both
 * sides apart is seen to give the ids of encoding them together: some tokenizers mark the start of a text, others
 * join line ends to what precedes them.
 */
export class DocumentEncoder {
  private readonly tokenizer: Tokenizer;
  private readonly before: readonly number[];
  private readonly after: readonly number[];
  private waiting = "";
  private drop = 0;
  private isStarted = false;

  constructor(tokenizer: Tokenizer, endOfText: number | undefined) {
    this.tokenizer = tokenizer;
    const bare = this.encode("a");
    const whole: readonly number[] = tokenizer.encode("a", { add_special_tokens: true }).ids;
    const start = whole.findIndex((_, i) => bare.every((id, j) => whole[i + j] === id));
    this.before = whole.slice(0, Math.max(start, 0));
    const added = start < 0 ? [] : whole.slice(start + bare.length);
    this.after = endOfText === undefined || added.at(-1) === endOfText ? added : [...added, endOfText];
  }

  /** The next stretch of the current document; yields the ids that are certain by now. */
  *push(text: string): Generator<readonly number[]> {
    this.waiting += text;
    while (this.waiting.length > 2 * pieceLength) {
      const cut = this.findCut(this.waiting);
      if (!cut) return;
      yield this.take(this.waiting.slice(0, cut.at));
      this.waiting = this.waiting.slice(cut.at);
      this.drop = cut.drop;
    }
  }

  /** Ends the document; yields the rest of its ids, none for an empty document. */
  *end(): Generator<readonly number[]> {
    if (this.waiting !== "") yield this.take(this.waiting);
    if (this.isStarted && this.after.length > 0) yield this.after;
    this.waiting = "";
    this.drop = 0;
    this.isStarted = false;
  }

  private take(text: string): readonly number[] {
    const ids = this.encode(text).slice(this.drop);
    if (this.isStarted) return ids;
    this.isStarted = true;
    return this.before.length > 0 ? [...this.before, ...ids] : ids;
  }

  private encode(text: string): number[] {
    return this.tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  /** The first place after a piece's length where a cut changes no id; undefined if none of the next few is one. */
  private findCut(text: string): Cut | undefined {
    for (const [pattern, tries] of [
      [/\n(?=\S)|(?<=\S)(?=\n)/g, 32],
      [/(?<=\S)(?= \S)/g, 8],
    ] as const) {
      pattern.lastIndex = pieceLength;
      for (let i = 0; i < tries; i++) {
        const match = pattern.exec(text);
        if (!match || match.index + windowLength >= text.length) break;
        const at = match.index + match[0].length;
        const drop = this.dropOf(text, at);
        if (drop !== undefined) return { at, drop };
        pattern.lastIndex = match.index + 1;
      }
    }
    return undefined;
  }

  /** Of a cut at `at`: how many ids to drop after it, or undefined if the ids come out differently. */
  private dropOf(text: string, at: number): number | undefined {
    const left = text.slice(at - windowLength, at);
    const right = text.slice(at, at + windowLength);
    const together = this.encode(left + right).join();
    const head = this.encode(left);
    const tail = this.encode(right);
    return [0, 1].find((drop) => [...head, ...tail.slice(drop)].join() === together);
  }
}

export interface LoadedTokenizer {
  readonly tokenizer: Tokenizer;
  /** The id that ends a text, if the tokenizer has one. */
  readonly endOfText: number | undefined;
}

/** Reads tokenizer.json and, for the token that ends a text, tokenizer_config.json beside it. Throws UserError. */
export function loadTokenizer(path: string): LoadedTokenizer {
  const definition = readJson(path);
  const configPath = join(dirname(path), "tokenizer_config.json");
  const config = existsSync(configPath) ? readJson(configPath) : {};
  let tokenizer: Tokenizer;
  try {
    tokenizer = new Tokenizer(definition, config);
  } catch (error) {
    throw new UserError(`the tokenizer can't be used: ${(error as Error).message}`, {
      location: path,
      remedy: "It must be a tokenizer.json as saved by Hugging Face's tokenizers.",
    });
  }
  return { tokenizer, endOfText: endOfText(tokenizer, config) };
}

const commonNames = ["</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>"];

function endOfText(tokenizer: Tokenizer, config: Record<string, unknown>): number | undefined {
  const entry = config.eos_token;
  const named = typeof entry === "object" && entry !== null && "content" in entry ? entry.content : entry;
  const names = typeof named === "string" ? [named] : commonNames;
  for (const name of names) {
    const id = tokenizer.token_to_id(name);
    if (id !== undefined) return id;
  }
  return undefined;
}

function readJson(path: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(readFileSync(path, "utf8"));
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
    throw new Error("it is not an object");
  } catch (error) {
    throw new UserError(`can't be read as JSON: ${(error as Error).message}`, { location: path });
  }
}
