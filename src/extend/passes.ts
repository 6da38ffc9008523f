/** @file Reads the passes that a file exports, and says of a record that is none what it lacks. */
import { UserError } from "../ir/error.ts";
import { suggestion } from "../ir/nearest.ts";
import { properties } from "../ir/verify.ts";
import type { KnownPass } from "../passes/arrange.ts";
import type { Pass } from "../passes/pass.ts";
import { loadModule } from "./module.ts";
import { opsAmong } from "./register.ts";
import { throwingLine } from "./thrown.ts";

/**
 * Every pass that the file exports, each with a whole record. At least one, else a UserError, but for a file of which ops
 * are as welcome.
 */
export function loadPasses(file: string, askedBy?: string, { orOps = false } = {}): KnownPass[] {
  const exports = loadModule(file, askedBy);
  const passes = Object.entries(exports).filter(([, value]) => looksLikePass(value));
  if (passes.length === 0 && !(orOps && opsAmong(exports).size > 0)) {
    throw new UserError("exports no pass", {
      location: file,
      remedy:
        'A pass is exported as: export const count = definePass({ name: "count", ... }), imported from "ithaca".',
    });
  }
  const records = new Set(passes.map(([, value]) => value as Pass));
  return [...records].map((pass) => ({ pass: locating(checked(pass, file)), file }));
}

const wrapped = new WeakMap<Pass, Pass>();

/** The pass, whose errors say at which line of the file they were thrown. One pass gives one pass. */
function locating(pass: Pass): Pass {
  const known = wrapped.get(pass);
  if (known) return known;
  const run: Pass["run"] = (graph, options) => {
    try {
      return pass.run(graph, options);
    } catch (error) {
      const line = throwingLine(error);
      if (line === undefined || (error instanceof UserError && error.location)) throw error;
      const remedy = error instanceof UserError ? error.remedy : undefined;
      throw new UserError((error as Error).message, {
        location: line,
        ...(remedy !== undefined && { remedy }),
      });
    }
  };
  const own = { ...pass, run };
  wrapped.set(pass, own);
  return own;
}

function looksLikePass(value: unknown): boolean {
  return typeof value === "object" && value !== null && "run" in value && typeof value.run === "function";
}

const NUMERICS = ["exact", "reordered", "changed"] as const;

/** The record, if it is whole. Types hold the author to it; this is for who has no checker. */
function checked(pass: Partial<Pass>, file: string): Pass {
  const name = typeof pass.name === "string" ? `the pass "${pass.name}"` : "a pass";
  const fail = (message: string, remedy: string): never => {
    throw new UserError(`${name} ${message}`, { location: file, remedy });
  };
  if (typeof pass.name !== "string" || !/^[a-z][a-z0-9-]*$/.test(pass.name))
    fail(
      "has no name",
      'name: "count-ops", in small letters and dashes, is what dumps and --passes call it.',
    );
  if (typeof pass.summary !== "string" || pass.summary === "")
    fail("has no summary", 'summary: "counts the ops of each kind", one sentence without a subject.');
  if (!NUMERICS.some((own) => own === pass.numerics))
    fail(
      `says numerics: ${JSON.stringify(pass.numerics)}`,
      "exact: the same bits; reordered: sums in another order; changed: other numbers by design.",
    );
  const names = Object.keys(properties);
  for (const list of ["requires", "establishes"] as const) {
    const own: readonly unknown[] = Array.isArray(pass[list]) ? pass[list] : [];
    if (!Array.isArray(pass[list])) fail(`has no ${list}`, `${list}: [] if it ${list} nothing.`);
    const unknown = own.find((property) => !names.includes(String(property)));
    if (unknown !== undefined)
      fail(
        `${list} "${String(unknown)}", which is no property`,
        suggestion(String(unknown), names, "properties"),
      );
  }
  if (typeof pass.options !== "object" || pass.options === null)
    fail("has no options", "options: {} if it takes none.");
  return pass as Pass;
}
