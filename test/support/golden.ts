/** @file Goldens: files that a person blessed. BLESS=1 writes them anew. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { relative } from "node:path";
import { expect } from "vitest";

export const blessing = process.env.BLESS === "1";

/** The text of `path` is `text`. With BLESS=1 it becomes that. */
export function expectGolden(path: string, text: string): void {
  if (blessing) writeFileSync(path, text);
  const name = relative(process.cwd(), path);
  expect(existsSync(path), `${name} is not there: look at what BLESS=1 writes`).toBe(true);
  expect(text, `${name} differs: if it should, write it anew with BLESS=1`).toBe(readFileSync(path, "utf8"));
}
