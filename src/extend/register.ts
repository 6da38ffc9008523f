/** @file Makes the ops that a file exports known, with their kernels, and says of a record that can't be used why. */
import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { type AddedKernel, addKernels } from "../codegen/added.ts";
import type { TargetName } from "../codegen/targets.ts";
import { UserError } from "../ir/error.ts";
import { parseRule } from "../ir/layout.ts";
import type { OpDefinition } from "../ir/op.ts";
import { addOps, fileOfOp, isKnownOp, recordOf } from "../ir/ops/index.ts";
import { DefinedKernel } from "./define-kernel.ts";

type Exports = Readonly<Record<string, unknown>>;

/** The ops among what a file exports, by the names under which it does. */
export function opsAmong(exports: Exports): ReadonlyMap<string, OpDefinition> {
  const ops = Object.entries(exports).flatMap(([name, value]): [string, OpDefinition][] =>
    typeof value === "function" && "record" in value ? [[name, value.record as OpDefinition]] : [],
  );
  return new Map(ops);
}

/** The kernels among what a file exports. */
export function kernelsAmong(exports: Exports): readonly DefinedKernel[] {
  return Object.values(exports).filter((value) => value instanceof DefinedKernel);
}

/** Adds the ops and kernels of the file at `path`, in place of those it had before. Throws a UserError. */
export function registerOps(exports: Exports, path: string, file: string): void {
  // What is only passed on belongs to the file that defined it.
  const records = [...new Set(opsAmong(exports).values())].filter(
    (record) =>
      !(isKnownOp(record.name) && recordOf(record.name) === record && fileOfOp(record.name) !== path),
  );
  for (const record of records) requireUsable(record, file);
  const added = kernelsAmong(exports).map((kernel) => found(kernel, path, file));
  addOps(records, path);
  addKernels(added, path);
}

function found({ record, options }: DefinedKernel, path: string, file: string): AddedKernel {
  const { workspaceBytes } = options;
  const files: Partial<Record<TargetName, string>> = {};
  for (const target of ["cpu", "cuda"] as const) {
    const name = options[target];
    if (name === undefined) continue;
    const kernel = resolve(dirname(path), name);
    const [extension, others] = target === "cpu" ? [".cc", [".cc", ".cpp", ".cxx"]] : [".cu", [".cu"]];
    if (!others.some((own) => kernel.endsWith(own))) {
      throw new UserError(`the kernel of ${record.name} for ${target} is ${name}`, {
        location: file,
        remedy: `It is a file that ends in ${extension}.`,
      });
    }
    if (!existsSync(kernel)) {
      throw new UserError(`there is no file ${kernel}, the kernel of ${record.name} for ${target}`, {
        location: file,
        remedy: "Its path is relative to the file that calls defineKernel.",
      });
    }
    files[target] = kernel;
  }
  return { declaredIn: path, record, files, ...(workspaceBytes && { workspaceBytes }) };
}

const CPP_WORDS = new Set(
  `alignas alignof asm auto bool break case catch char class concept const continue default delete do double else enum
  explicit export extern false float for friend goto if inline int long mutable namespace new not operator or private
  protected public register requires return short signed sizeof static struct switch template this throw true try
  typedef typename union unsigned using virtual void volatile while workspace stream`.split(/\s+/),
);

/** Types hold the author to the record; this is for what they can't say, and for who has no checker. */
function requireUsable(record: Partial<OpDefinition>, file: string): void {
  const { name, operands, results, attrs, sharding } = record;
  const fail = (message: string, remedy: string): never => {
    throw new UserError(`${typeof name === "string" ? `the op "${name}"` : "an op"} ${message}`, {
      location: file,
      remedy,
    });
  };
  if (typeof name !== "string" || !/^[a-z][a-z0-9_]*$/.test(name) || name in {})
    fail(
      "has no name that can be used",
      'name: "my_op", in small letters, digits and _, is what IR and C++ call it.',
    );
  if (typeof record.doc !== "string" || record.doc === "")
    fail("has no doc", "One or two sentences and the formula.");
  if (!Array.isArray(operands) || !Array.isArray(results)) fail("has no operands", 'operands: ["x"]');
  if (typeof attrs !== "object" || attrs === null) fail("has no attrs", "attrs: {} if it takes none.");
  for (const part of ["infer", "cost", "eval"] as const)
    if (typeof record[part] !== "function")
      fail(`has no ${part}`, "infer gives types, cost FLOPs and bytes, eval the numbers in float64.");
  if (record.gradient !== null && typeof record.gradient !== "function")
    fail("has no gradient", "gradient: null if it can't be differentiated.");
  if (record.elementwise)
    fail(
      "says elementwise, which asks for a generated loop instead of a kernel",
      "Leave it out; its sharding rule says already that elements are free.",
    );
  if (sharding === "moves" || sharding === "body" || record.sends)
    fail(
      "moves data between ranks, or has a body",
      "Collectives and bodies are made by passes, of Ithaca's ops.",
    );
  if (typeof sharding === "string") requireRule(sharding, record as OpDefinition, fail);
  else if (typeof sharding !== "function")
    fail("has no sharding rule", 'sharding: "...n! -> ...n"; docs/ir.md says how to read one.');
  const names = [name, ...(operands ?? []), ...(results ?? []), ...Object.keys(attrs ?? {})];
  for (const own of names.filter((word) => word.startsWith("...")))
    fail(
      `takes any number of operands, "${own}"`,
      "A kernel is a C++ function of as many as there are: name each.",
    );
  const parameters =
    "Operands, results and attributes become the parameters of a C++ function called like the op.";
  for (const [i, own] of names.entries()) {
    if (!/^[A-Za-z]\w*$/.test(own) || CPP_WORDS.has(own)) fail(`can't call a parameter "${own}"`, parameters);
    if (names.indexOf(own) < i) fail(`has the name "${own}" twice`, parameters);
  }
}

function requireRule(
  sharding: string,
  { operands, results }: OpDefinition,
  fail: (message: string, remedy: string) => never,
): void {
  const remedy = `It has a term for each of ${operands.length} operands and ${results.length} results.`;
  if (!sharding.includes("->")) fail(`has the sharding rule "${sharding}", without an arrow`, remedy);
  const rule = parseRule(sharding);
  if (rule.operands.length !== operands.length || rule.results.length !== results.length)
    fail(`has the sharding rule "${sharding}"`, remedy);
}
