/** @file Hugging Face directories for tests, made of a few keys. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { type Model, readModelDirectory } from "../../src/frontend/index.ts";
import { refusal } from "./lowering.ts";

let folder = "";
let count = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ithaca-directory-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A directory of files, contents as text or as data for JSON. */
export function directory(files: Readonly<Record<string, unknown>>): string {
  const path = mkdtempSync(join(folder, `${count++}-`));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(path, name), typeof content === "string" ? content : JSON.stringify(content, null, 2));
  }
  return path;
}

export const LLAMA = { model_type: "llama", hidden_size: 96, num_attention_heads: 6, num_hidden_layers: 2 };

/** The model of a directory with this config.json. */
export function read(config: object, files: object = {}): Model {
  return readModelDirectory(directory({ "config.json": config, ...files }));
}

/** What is said about a directory, its path written DIR. */
export async function refused(config: unknown, files: object = {}): Promise<string> {
  const path = directory({ "config.json": config, ...files });
  const message = await refusal(Promise.resolve().then(() => readModelDirectory(path)));
  return message.replaceAll(path, "DIR");
}
