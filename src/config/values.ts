/** @file The kinds of values that config.yaml has: what is accepted, and how to say so when it isn't. */
import { z } from "zod";

/** What `loadConfig` shows beside an issue; `choices` are also searched for the nearest spelling. */
export interface Hint {
  readonly remedy?: string;
  readonly choices?: readonly string[];
}

/** A leaf of the schema: `parse` returns undefined for what is not allowed; `expected` completes "it must be ...". */
function value<T>(
  expected: string,
  parse: (input: unknown) => T | undefined,
  hint: (input: unknown) => Hint = () => ({}),
) {
  return z.unknown().transform((input, context): T => {
    const parsed = parse(input);
    if (parsed !== undefined) return parsed;
    context.addIssue({ code: "custom", message: expected, params: hint(input) });
    return z.NEVER;
  });
}

const group = new Intl.NumberFormat("en-US");

/** 1234567 as "1,234,567". */
export function grouped(number: number): string {
  return group.format(number);
}

const countUnits: Readonly<Record<string, number>> = {
  "": 1,
  K: 1e3,
  M: 1e6,
  G: 1e9,
  KI: 2 ** 10,
  MI: 2 ** 20,
  GI: 2 ** 30,
};

/** 4096, 1_048_576, "128Ki" (131,072), "1M" (1,000,000); undefined for anything that isn't a whole number. */
export function parseCount(input: unknown): number | undefined {
  if (typeof input === "number") return Number.isSafeInteger(input) ? input : undefined;
  if (typeof input !== "string") return undefined;
  return scaled(input, countUnits);
}

const byteUnits: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

/** A number of bytes, or "80GiB", "512 MiB", "1.5GB"; undefined for anything else. */
export function parseBytes(input: unknown): number | undefined {
  if (typeof input === "number") return Number.isSafeInteger(input) && input >= 0 ? input : undefined;
  return typeof input === "string" ? scaled(input, byteUnits) : undefined;
}

function scaled(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^([-+]?\d[\d_]*(?:\.\d+)?) ?([a-z]*)$/i.exec(text.trim());
  const unit = units[match?.[2]?.toUpperCase() ?? "none"];
  if (!match?.[1] || unit === undefined) return undefined;
  const number = Number(match[1].replaceAll("_", "")) * unit;
  return Number.isSafeInteger(number) ? number : undefined;
}

/** A whole number that may be written with a suffix. */
export function count(least: number) {
  const remedy =
    'Thousands are 128K (128,000) or 1M, powers of two 128Ki (131,072) or 1Mi; "_" may group digits.';
  return value(
    `a whole number of at least ${grouped(least)}`,
    (input) => {
      const parsed = parseCount(input);
      return parsed !== undefined && parsed >= least ? parsed : undefined;
    },
    (input) => (typeof input === "string" && parseCount(input) === undefined ? { remedy } : {}),
  );
}

export function countBetween(least: number, most: number) {
  return value(`a whole number from ${least} to ${most}`, (input) => {
    const parsed = parseCount(input);
    return parsed !== undefined && parsed >= least && parsed <= most ? parsed : undefined;
  });
}

export function number(expected: string, isAllowed: (input: number) => boolean) {
  return value(expected, (input) =>
    typeof input === "number" && Number.isFinite(input) && isAllowed(input) ? input : undefined,
  );
}

/** A number, or null for "off". */
export function numberOrNull(expected: string, isAllowed: (input: number) => boolean) {
  return value(`${expected}, or null`, (input) => {
    if (input === null) return null;
    return typeof input === "number" && Number.isFinite(input) && isAllowed(input) ? input : undefined;
  });
}

const leastLimit = 2 ** 20;

/** Bytes, or null for "no limit". Less than a mebibyte is a forgotten unit. */
export function bytesOrNull() {
  return value(
    "a size such as 80GiB (at least 1MiB), or null for no limit",
    (input) => {
      if (input === null) return null;
      const parsed = parseBytes(input);
      return parsed !== undefined && parsed >= leastLimit ? parsed : undefined;
    },
    () => ({
      remedy: "Units are KiB, MiB, GiB, TiB (powers of 1,024) and kB, MB, GB, TB (powers of 1,000).",
    }),
  );
}

export function oneOf<const Choice extends string>(...choices: readonly Choice[]) {
  return value(
    list(choices),
    (input) => choices.find((choice) => choice === (input === false ? "off" : input)),
    () => ({ choices }),
  );
}

/** One of some words, or a whole number of something. */
export function oneOfOrCount<const Choice extends string>(
  least: number,
  of: string,
  ...choices: readonly Choice[]
) {
  return value(
    `${choices.join(", ")} or a number of ${of}`,
    (input): Choice | number | undefined => {
      const parsed = parseCount(input);
      if (parsed !== undefined) return parsed >= least ? parsed : undefined;
      return choices.find((choice) => choice === (input === false ? "off" : input));
    },
    () => ({ choices }),
  );
}

export function text(expected: string) {
  return value(expected, (input) => (typeof input === "string" && input.trim() !== "" ? input : undefined));
}

export function textOrNull(expected: string) {
  return value(`${expected}, or null`, (input) => {
    if (input === null) return null;
    return typeof input === "string" && input.trim() !== "" ? input : undefined;
  });
}

export function countOrNull(least: number, meaning: string) {
  return value(`a whole number of at least ${least}, or null for ${meaning}`, (input) => {
    if (input === null) return null;
    const parsed = parseCount(input);
    return parsed !== undefined && parsed >= least ? parsed : undefined;
  });
}

function allTexts(input: unknown): readonly string[] | undefined {
  const isText = (item: unknown) => typeof item === "string" && item.trim() !== "";
  return Array.isArray(input) && input.every(isText) ? input : undefined;
}

export function texts(expected: string) {
  return value(expected, allTexts);
}

export function textsOrNull(expected: string) {
  return value(`${expected}, or null`, (input) => (input === null ? null : allTexts(input)));
}

/** What YAML and JSON can say. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export type JsonObject = { readonly [key: string]: Json };

/** A Hugging Face directory, or a definition with the configuration it is built with. */
export function model() {
  return value(
    "a Hugging Face directory, or { source: my-model.ts, config: { ... } }",
    (input): string | { source: string; config: JsonObject } | undefined => {
      if (typeof input === "string" && input.trim() !== "") return input;
      if (!isRecord(input)) return undefined;
      const { source, config = {}, ...rest } = input;
      if (typeof source !== "string" || !isRecord(config) || Object.keys(rest).length > 0) return undefined;
      return { source, config: config as JsonObject };
    },
  );
}

export function isRecord(input: unknown): input is Record<string, unknown> {
  return typeof input === "object" && input !== null && !Array.isArray(input);
}

/** "a", "a or b", "a, b or c". */
export function list(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words[words.length - 1]}`;
}

/** One line of `passes:`: a pass of one's own, or a change to one of ours. */
export interface PassSetting {
  /** The file that exports it; null for one of Ithaca's. */
  readonly file: string | null;
  /** Its name; needed where the file exports several, or for one of Ithaca's. */
  readonly pass: string | null;
  /** The pass behind which it runs; null: where it is. */
  readonly after: string | null;
  readonly enabled: boolean;
  readonly options: JsonObject;
}

/** `[{ file: ./my-pass.ts, after: unroll, options: {...} }, { pass: fuse, enabled: false }]` */
export function passList() {
  const known = ["file", "pass", "after", "enabled", "options"];
  const setting = (item: unknown): PassSetting | undefined => {
    if (!isRecord(item) || Object.keys(item).some((key) => !known.includes(key))) return undefined;
    const { file = null, pass = null, after = null, enabled = true, options = {} } = item;
    const isText = (own: unknown): own is string | null => own === null || typeof own === "string";
    if (!isText(file) || !isText(pass) || !isText(after)) return undefined;
    if ((file === null && pass === null) || typeof enabled !== "boolean" || !isRecord(options))
      return undefined;
    return { file, pass, after, enabled, options: options as JsonObject };
  };
  return value(
    "a list of { file or pass, after, enabled, options }",
    (input): readonly PassSetting[] | undefined => {
      if (input === null) return [];
      const settings = Array.isArray(input) ? input.map(setting) : [undefined];
      return settings.every((own) => own !== undefined) ? settings : undefined;
    },
    () => ({
      remedy: "For example [{ file: ./my-pass.ts, after: unroll }, { pass: fuse, enabled: false }].",
    }),
  );
}
