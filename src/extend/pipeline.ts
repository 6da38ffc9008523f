/** @file The pipeline as a configuration wants it: passes of one's own put in, ours turned off, moved or given options. */
import type { PassSetting } from "../config/values.ts";
import { UserError } from "../ir/error.ts";
import { suggestion } from "../ir/nearest.ts";
import type { PropertyName } from "../ir/verify.ts";
import { type KnownPass, optionsFor } from "../passes/arrange.ts";
import type { PipelineEntry } from "../passes/pipeline.ts";
import { loadPasses } from "./passes.ts";

const WHERE = "passes";

/** `entries` with what `settings` say, in their order. An order in which a pass lacks what it requires is refused. */
export function customized(
  entries: readonly PipelineEntry[],
  settings: readonly PassSetting[],
): readonly PipelineEntry[] {
  if (settings.length === 0) return entries;
  const result = settings.reduce((all, setting) => apply(all, setting), entries);
  checkOrder(result);
  return result;
}

function apply(entries: readonly PipelineEntry[], setting: PassSetting): readonly PipelineEntry[] {
  const { file, after, enabled, options } = setting;
  if (file !== null) {
    if (!enabled) return entries;
    const own = chosen(loadPasses(file, WHERE), file, setting.pass);
    if (entries.some(({ pass }) => pass.name === own.pass.name)) {
      throw new UserError(`there is a pass "${own.pass.name}" already`, {
        location: file,
        remedy: "Choose another name: dumps and messages could not tell the two apart.",
      });
    }
    const entry: PipelineEntry = {
      pass: own.pass,
      why: "asked for by the configuration",
      options: optionsFor(own.pass, options, WHERE),
      file,
    };
    return after === null
      ? [...entries, entry]
      : entries.toSpliced(placeOf(after, entries, true) + 1, 0, entry);
  }
  const at = placeOf(setting.pass as string, entries, false);
  if (!enabled) return entries.filter(({ pass }) => pass.name !== setting.pass);
  const { pass } = entries[at];
  const changed = entries.map((entry) =>
    entry.pass === pass
      ? { ...entry, options: { ...entry.options, ...pick(optionsFor(pass, options, WHERE), options) } }
      : entry,
  );
  if (after === null) return changed;
  const others = changed.toSpliced(at, 1);
  return others.toSpliced(placeOf(after, others, true) + 1, 0, changed[at]);
}

function pick<T>(all: Readonly<Record<string, T>>, keys: object): Record<string, T> {
  return Object.fromEntries(Object.keys(keys).map((key) => [key, all[key]]));
}

function chosen(passes: readonly KnownPass[], file: string, name: string | null): KnownPass {
  const found = name === null ? passes[0] : passes.find(({ pass }) => pass.name === name);
  if (found && (name !== null || passes.length === 1)) return found;
  const names = passes.map(({ pass }) => pass.name);
  throw new UserError(name === null ? `exports ${passes.length} passes` : `exports no pass "${name}"`, {
    location: file,
    remedy: `Say which with pass: ${names.join(" or ")}.`,
  });
}

/** Where the pass stands; the last place if it runs several times. */
function placeOf(name: string, entries: readonly PipelineEntry[], isLast: boolean): number {
  const names = entries.map(({ pass }) => pass.name);
  const at = isLast ? names.lastIndexOf(name) : names.indexOf(name);
  if (at >= 0) return at;
  throw new UserError(`there is no pass "${name}" in the pipeline`, {
    location: WHERE,
    remedy: suggestion(name, [...new Set(names)], "passes"),
  });
}

/** A pass must stand behind one that establishes what it requires; the error says which that would be. */
function checkOrder(entries: readonly PipelineEntry[]): void {
  const established = new Set<PropertyName>(["typed"]);
  for (const { pass } of entries) {
    const missing = pass.requires.find((property) => !established.has(property));
    if (missing !== undefined) {
      const later = entries.find((own) => own.pass.establishes.includes(missing))?.pass.name;
      throw new UserError(
        `"${pass.name}" needs a graph that is "${missing}", and no pass before it makes it so`,
        {
          location: WHERE,
          remedy:
            later === undefined
              ? `Leave a pass that establishes "${missing}" in the pipeline.`
              : `Put it behind "${later}": { pass: ${pass.name}, after: ${later} }.`,
        },
      );
    }
    for (const property of pass.establishes) established.add(property);
  }
}
