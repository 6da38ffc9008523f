/** @file JSON files that a user wrote or downloaded: reading them, and pointing into them. */
import { readFileSync } from "node:fs";
import { codeFrameColumns } from "@babel/code-frame";
import { UserError } from "../ir/error.ts";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

export function isObject(json: Json | undefined): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

/** A file whose content is one object. */
export class JsonFile {
  readonly path: string;
  readonly text: string;
  readonly value: JsonObject;

  /** Throws a UserError where the file can't be read, is not JSON, or is not an object. */
  constructor(path: string) {
    this.path = path;
    this.text = read(path);
    const value = this.#parse();
    if (!isObject(value)) throw new UserError("this file must hold a JSON object", { location: path });
    this.value = value;
  }

  #parse(): Json {
    try {
      return JSON.parse(this.text) as Json;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const position = /position (\d+)/.exec(message)?.[1];
      const at = position === undefined ? wrongToken(this.text) : Number(position);
      const what = message
        .replace(/ in JSON at position.*$/s, "")
        .replace(/^(Unexpected token '.+?'), .*$/s, "$1");
      throw this.#errorAt(at, `this is not JSON: ${what}`);
    }
  }

  /** An error that points at `key`, given as the path of keys that leads to it; at the file if it isn't there. */
  errorAt(keys: readonly string[], message: string, remedy?: string): UserError {
    let at = 0;
    for (const key of keys) {
      const found = this.text.indexOf(`${JSON.stringify(key)}`, at);
      if (found < 0) return new UserError(message, { location: this.path, ...(remedy && { remedy }) });
      at = found;
    }
    return this.#errorAt(at, message, remedy);
  }

  #errorAt(at: number, message: string, remedy?: string): UserError {
    const before = this.text.slice(0, at).split("\n");
    const start = { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 };
    return new UserError(message, {
      location: `${this.path}:${start.line}:${start.column}`,
      frame: codeFrameColumns(this.text, { start }, { linesAbove: 1, linesBelow: 1 }),
      ...(remedy && { remedy }),
    });
  }
}

/** Where the first token is that JSON can't have, which V8 doesn't say; the end of the text if that is what is wrong. */
function wrongToken(text: string): number {
  const isWrong = (start: string) => {
    try {
      JSON.parse(start);
      return false;
    } catch (error) {
      return error instanceof Error && error.message.startsWith("Unexpected token");
    }
  };
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isWrong(text.slice(0, middle + 1))) high = middle;
    else low = middle + 1;
  }
  return low;
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new UserError(`${path} can't be read: ${(error as NodeJS.ErrnoException).code ?? "unknown error"}`);
  }
}
