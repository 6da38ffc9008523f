/** @file Passes as a person names them: `"ulysses axis=sp; tile-loss tiles=8"` becomes entries with checked options. */
import { UserError } from "../ir/error.ts";
import type { AttrValue } from "../ir/graph.ts";
import { nearest, suggestion } from "../ir/nearest.ts";
import { parseAttrText } from "../ir/parse.ts";
import { printAttr } from "../ir/print.ts";
import type { Pass, PassOptions } from "./pass.ts";
import { DEFAULTS, type PipelineEntry, trainingPipeline } from "./pipeline.ts";

/** A pass that can be named, and the file it was loaded from if it isn't one of ours. */
export interface KnownPass {
  readonly pass: Pass;
  readonly file?: string;
}

export type KnownPasses = ReadonlyMap<string, KnownPass>;

/** The passes of the training pipeline by name. */
export function builtinPasses(): Map<string, KnownPass> {
  return new Map(trainingPipeline(DEFAULTS).map(({ pass }) => [pass.name, { pass }]));
}

/** `known` and `more`; a name that is there already is refused, since a dump could not tell the two apart. */
export function withPasses(known: KnownPasses, more: readonly KnownPass[]): Map<string, KnownPass> {
  const all = new Map(known);
  for (const own of more) {
    const other = all.get(own.pass.name);
    if (other && other.pass !== own.pass) {
      throw new UserError(`there is a pass "${own.pass.name}" already`, {
        ...(own.file !== undefined && { location: own.file }),
        remedy:
          other.file === undefined
            ? "It is one of Ithaca's; choose another name."
            : `It is in ${other.file}.`,
      });
    }
    all.set(own.pass.name, own);
  }
  return all;
}

const kindOf = (value: unknown): string => (Array.isArray(value) ? "list of numbers" : typeof value);

/** The pass's options with `given` in place of defaults. Unknown names and wrong types are the user's to mend. */
export function optionsFor(
  pass: Pass,
  given: Readonly<Record<string, unknown>>,
  location: string,
): PassOptions {
  const options: Record<string, AttrValue> = { ...pass.options };
  const names = Object.keys(pass.options);
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(pass.options, name)) {
      throw new UserError(`the pass "${pass.name}" has no option "${name}"`, {
        location,
        remedy: suggestion(name, names, "options"),
      });
    }
    const fallback = pass.options[name];
    // A word such as 8 or true in quotes is still a string where a string is wanted.
    const isGood =
      kindOf(value) === kindOf(fallback) &&
      (!Array.isArray(value) || value.every((item) => typeof item === "number"));
    const text = typeof fallback === "string" && (typeof value === "number" || typeof value === "boolean");
    if (!isGood && !text) {
      throw new UserError(
        `${pass.name}: ${name} is ${JSON.stringify(value)}; it must be a ${kindOf(fallback)}`,
        {
          location,
          remedy: `Its default is ${printAttr(fallback)}.`,
        },
      );
    }
    options[name] = text ? String(value) : (value as AttrValue);
  }
  return options;
}

/**
 * Reads `NAME option=value ...; NAME ...`. Values are written as in the IR: numbers, words, "strings", [1, 2].
 * Errors say at which column of the text.
 */
export function parsePasses(text: string, known: KnownPasses, where = "--passes"): PipelineEntry[] {
  const entries: PipelineEntry[] = [];
  let column = 1;
  for (const part of splitOutsideQuotes(text)) {
    const at = column + (part.length - part.trimStart().length);
    column += part.length + 1;
    if (part.trim() === "") continue;
    entries.push(parsePass(part.trim(), known, `${where}:${at}`));
  }
  if (entries.length === 0) {
    throw new UserError("no pass is named", {
      location: where,
      remedy: `Write for example --passes "unroll; simplify". The passes are ${[...known.keys()].join(", ")}.`,
    });
  }
  return entries;
}

function splitOutsideQuotes(text: string): string[] {
  return text.match(/(?:"(?:[^"\\]|\\.)*"|[^;"]|")+|(?<=^|;)(?=;|$)/g) ?? [];
}

function parsePass(text: string, known: KnownPasses, location: string): PipelineEntry {
  const [name, rest] = [/^\S+/.exec(text)?.[0] as string, text.replace(/^\S+\s*/, "")];
  const own = known.get(name);
  if (!own) throw unknownPass(name, known, location);
  const given: Record<string, AttrValue> = {};
  const word = /^([A-Za-z_][\w-]*)\s*=\s*("(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^\s"[\]]+)(?:\s+|$)/;
  for (let left = rest; left !== ""; ) {
    const match = word.exec(left);
    if (!match) {
      throw new UserError(`${name}: "${left}" is not option=value`, {
        location,
        remedy: `Its options are ${Object.keys(own.pass.options).join(", ") || "none"}.`,
      });
    }
    given[match[1]] = parseAttrText(match[2]);
    left = left.slice(match[0].length);
  }
  const options = optionsFor(own.pass, given, location);
  const why = "asked for";
  return { pass: own.pass, why, options, ...(own.file !== undefined && { file: own.file }) };
}

/** The error about a name that no pass has. */
export function unknownPass(name: string, known: KnownPasses, location: string): UserError {
  const names = [...known.keys()];
  const near = nearest(name, names);
  return new UserError(`there is no pass "${name}"`, {
    location,
    remedy:
      near === undefined
        ? `The passes are ${names.join(", ")}; --load FILE.ts adds passes of your own.`
        : `Did you mean "${near}"?`,
  });
}

/** Entries as `parsePasses` reads them; options at their default are left out. */
export function printPasses(entries: readonly PipelineEntry[]): string {
  return entries
    .map(({ pass, options }) => {
      const changed = Object.entries(options)
        .filter(([name, value]) => printAttr(value) !== printAttr(pass.options[name]))
        .map(([name, value]) => ` ${name}=${printAttr(value)}`);
      return pass.name + changed.join("");
    })
    .join("; ");
}
