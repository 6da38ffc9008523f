/** @file Whether data may hold more than one document. */
import { existsSync } from "node:fs";
import { extname } from "node:path";

/** The file that may stand beside tokens: uint64 start of every document. */
export function documentsBeside(tokens: string): string {
  return tokens.replace(/\.bin$/i, ".docs.bin");
}

/** A .txt file is one document, and so is a .bin file with no file of starts beside it. */
export function hasDocuments(data: string): boolean {
  const kind = extname(data).toLowerCase();
  return kind === ".bin" ? existsSync(documentsBeside(data)) : kind !== ".txt";
}
