/**
 * @file Turns a plan into C++: a view in which every string and number is final, and the templates that print it.
 *
 * What differs between targets is how a kernel is called and who runs a lane; a target says so with its `Dialect`.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import nunjucks from "nunjucks";
import type { Node } from "../ir/graph.ts";
import { isOpName } from "../ir/ops/index.ts";
import { type Lane, lanes, type Plan, printStep, type Slot, type Step } from "../ir/plan.ts";
import { type DType, localBytes, sizesOf } from "../ir/type.ts";
import { AddedCalls, type AddedFile, mistakeIn } from "./added.ts";
import type { Source } from "./build.ts";
import { type ElementwiseKernel, elementwiseKernel, floatLiteral } from "./elementwise.ts";
import { Events, type Wait } from "./events.ts";
import type { EmitContext, Kernel, Kernels } from "./kernels.ts";
import { type Poison, poisonOf } from "./poison.ts";
import type { TargetName } from "./targets.ts";

export interface EmitOptions {
  /** OpenMP threads per rank for which workspaces were planned. */
  readonly threads: number;
  /** FLOPs of the model in one optimizer step, all ranks: causal, without recompute. */
  readonly modelFlops: number;
  /** A debug build: bytes of the arenas that belong to nobody are guarded (see poison.ts). */
  readonly poison?: boolean;
}

/** What a target adds to the shared view. */
export interface Dialect {
  readonly target: TargetName;
  readonly kernels: Kernels;
  /** Folder of the templates program.h, program.cc, steps.cc and `elementwise`, each with .njk behind its name. */
  readonly templates: URL;
  /** File of the generated loops. */
  readonly elementwise: string;
  /** Whether every lane is a function that a thread of its own runs, or one function issues the steps of all lanes. */
  readonly lanesApart: boolean;
  /** The function that opens what the program runs on; "nullptr" is the machine itself. */
  readonly openDevice: string;
  /** The statement that calls a kernel for a step on `lane`. */
  call(lane: Lane, kernel: string, operands: readonly (string | number | boolean)[]): string;
  /** The collectives of a mesh axis for a step on `lane`. */
  comm(lane: Lane, axis: number): string;
  /** The statement that takes, opens or gives back bytes of an arena; absent where there is no such debug build. */
  readonly guard?: (guard: keyof Poison, memory: "device" | "host", offset: number, bytes: number) => string;
}

/** Calls per generated function: g++ needs time that grows faster than a function's length. */
const CALLS_PER_FUNCTION = 200;
const FUNCTIONS_PER_FILE = 8;

interface StepView {
  readonly comment: string;
  readonly index: number;
  readonly lane: Lane;
  readonly waits: readonly Wait[];
  readonly call: string;
  readonly signals: readonly number[];
}

interface FunctionView {
  readonly name: string;
  readonly steps: readonly StepView[];
}

/** What a lane runs: functions, in loops, with waits and signals at the loops' borders. */
interface LaneLine {
  readonly indent: string;
  readonly text: string;
}

interface LaneView {
  readonly name: string;
  readonly lines: readonly LaneLine[];
}

/** Everything that the templates print. */
interface ProgramView {
  readonly name: string;
  readonly hash: string;
  readonly deviceBytes: number;
  readonly hostBytes: number;
  readonly fileBytes: number;
  readonly axes: readonly { readonly name: string; readonly degree: number }[];
  readonly tensors: readonly string[];
  readonly lanes: readonly LaneView[];
  readonly functions: readonly FunctionView[];
  readonly events: number;
  readonly steps: readonly { readonly name: string; readonly lane: string }[];
  readonly constants: readonly { readonly name: string; readonly values: string }[];
  readonly loops: readonly ElementwiseKernel[];
  readonly added: readonly AddedFile[];
  readonly loopDepth: number;
  readonly modelFlops: string;
  readonly threads: number;
  readonly openDevice: string;
  readonly oneDocument: boolean;
}

const POINTERS: Readonly<Record<DType, string>> = { f32: "f32", bf16: "b16", i32: "i32" };

/** The sources of one program. Equal plans give equal bytes. */
export function emit(plan: Plan, dialect: Dialect, options: EmitOptions): Source[] {
  const view = viewOf(plan, dialect, options);
  const render = (template: string, context: object) => environment(dialect).render(template, context);
  const files: FunctionView[][] = [];
  for (let at = 0; at < view.functions.length; at += FUNCTIONS_PER_FILE)
    files.push(view.functions.slice(at, at + FUNCTIONS_PER_FILE));
  const sources = [
    { path: "program.h", text: render("program.h.njk", view) },
    { path: dialect.elementwise, text: render(`${dialect.elementwise}.njk`, view) },
    ...files.map((functions, i) => ({
      path: `steps_${i}.cc`,
      text: render("steps.cc.njk", { ...view, functions }),
    })),
    ...view.added.map((own) => ({
      path: own.path,
      text: render("kernels.cc.njk", own),
      includes: { file: own.file, ...mistakeIn(own) },
    })),
  ];
  const hash = createHash("sha256");
  for (const { text } of sources) hash.update(text);
  return [
    ...sources,
    {
      path: "program.cc",
      text: render("program.cc.njk", { ...view, hash: hash.digest("hex").slice(0, 16) }),
    },
  ];
}

const environments = new Map<string, nunjucks.Environment>();

/** Templates are looked for beside the target, then here. */
function environment({ templates }: Dialect): nunjucks.Environment {
  const known = environments.get(templates.href);
  if (known) return known;
  const places = [templates, new URL("./", import.meta.url)];
  const loader: nunjucks.ILoader = {
    getSource(name) {
      const place = places.map((folder) => new URL(name, folder)).find((file) => existsSync(file));
      if (!place) throw new Error(`there is no template ${name}`);
      return { src: readFileSync(place, "utf8"), path: name, noCache: false };
    },
  };
  const made = new nunjucks.Environment(loader, {
    autoescape: false,
    throwOnUndefined: true,
    trimBlocks: true,
    lstripBlocks: true,
  });
  environments.set(templates.href, made);
  return made;
}

function viewOf(plan: Plan, dialect: Dialect, { threads, modelFlops, poison }: EmitOptions): ProgramView {
  const constants = new Map<string, string>();
  const loops = new Map<string, ElementwiseKernel>();
  const events = new Events(plan);
  const added = new AddedCalls(dialect.target);
  const context: FileContext = {
    threads,
    added,
    floats(values: readonly number[]): string {
      const text = values.map(floatLiteral).join(", ");
      if (!constants.has(text)) constants.set(text, `kConstants${constants.size}`);
      return constants.get(text) as string;
    },
    loop(node: Node): string {
      const kernel = elementwiseKernel(node, plan.mesh);
      const { comments: _, ...code } = kernel;
      const key = JSON.stringify(code);
      if (!loops.has(key)) loops.set(key, { ...kernel, name: `elementwise_${loops.size}` });
      return (loops.get(key) as ElementwiseKernel).name;
    },
  };
  const poisoned = poison ? poisonOf(plan) : new Map<number, Poison>();
  const guarded = (step: Step, guards: readonly (keyof Poison)[]): string[] =>
    guards.flatMap((guard) =>
      (poisoned.get(step.index)?.[guard] ?? []).flatMap((index) => {
        const { memory, offset, bytes } = plan.buffers[index];
        return dialect.guard && memory !== "file" ? [dialect.guard(guard, memory, offset, bytes)] : [];
      }),
    );
  const views = new Map<number, StepView>();
  for (const step of plan.steps) {
    const levels = dialect.lanesApart ? [step.loops.length] : [...step.loops.keys(), step.loops.length];
    const comment = printStep(plan, step).trim().replace(/ +/g, " ");
    views.set(step.index, {
      comment,
      index: step.index,
      lane: step.lane,
      waits: levels.flatMap((depth) => events.waits([step], depth)),
      call: [
        ...guarded(step, ["take", "open"]),
        callOf(step, plan, dialect, context),
        ...guarded(step, ["giveBack"]),
      ]
        .filter((statement) => statement !== "")
        .join("\n  "),
      signals: levels.flatMap((depth) => events.signals([step], depth)),
    });
  }
  const functions: FunctionView[] = [];
  const shared = { plan, events, lanesApart: dialect.lanesApart, views, functions };
  const laneViews = lanesOf(plan, dialect).map(
    ({ name, steps }): LaneView => ({ name, lines: block(steps, 0, { ...shared, lane: name }) }),
  );
  return {
    name: plan.name,
    hash: "",
    deviceBytes: plan.deviceBytes,
    hostBytes: plan.hostBytes,
    fileBytes: plan.fileBytes,
    axes: [...plan.mesh].map(([name, degree]) => ({ name, degree })),
    tensors: plan.tensors.map((_, i) => tensorRow(plan, i)),
    lanes: laneViews,
    functions,
    events: events.count,
    steps: plan.steps.map((step) => ({
      name: `${step.node.op} %${step.node.results[0]?.name ?? ""}`,
      lane: step.lane,
    })),
    constants: [...constants].map(([values, name]) => ({ name, values })),
    loops: [...loops.values()],
    added: added.files(),
    loopDepth: Math.max(1, ...plan.steps.map((step) => step.loops.length)),
    modelFlops: modelFlops.toPrecision(17),
    threads,
    openDevice: dialect.openDevice,
    oneDocument: plan.steps.some(({ node }) => node.attrs.packed === false),
  };
}

/** What each host thread runs. Plan order is an order in which one thread can issue the steps of all lanes. */
function lanesOf({ steps }: Plan, { lanesApart }: Dialect): { name: string; steps: readonly Step[] }[] {
  if (!lanesApart) return [{ name: "compute", steps }];
  return lanes
    .filter((lane) => lane === "compute" || steps.some((step) => step.lane === lane))
    .map((lane) => ({ name: lane, steps: steps.filter((step) => step.lane === lane) }));
}

/** A row of the table of tensors: the fields of ithaca::TensorSpec in order. */
function tensorRow(plan: Plan, index: number): string {
  const { name, role, type, init, buffer } = plan.tensors[index];
  const [kind, std] = init === "" ? ["none", "0"] : init.split(" ");
  const list = (values: readonly (string | number)[], filler: string | number) =>
    `{${[...values, ...new Array(8 - values.length).fill(filler)].join(", ")}}`;
  const fields = [
    JSON.stringify(name),
    `ithaca::Role::${role === "param" ? "parameter" : role}`,
    `ithaca::DType::${type.dtype}`,
    `ithaca::Memory::${type.memory}`,
    `ithaca::Init::${role === "state" ? "zeros" : kind}`,
    floatLiteral(Number(std ?? 0)),
    type.dims.length,
    list(sizesOf(type), 1),
    list(
      type.dims.map((dim) => JSON.stringify(dim.axes.join(","))),
      '""',
    ),
    type.times ?? 1,
    plan.buffers[buffer].offset,
    localBytes(type, plan.mesh),
  ];
  return `{${fields.join(", ")}}`;
}

/** Where a slot is: a pointer into its arena, or an offset in the file. */
function pointer(slot: Slot, plan: Plan): string {
  const { offset, memory } = plan.buffers[slot.buffer];
  const moves = slot.strides
    .map((stride, depth) => (stride === 0 ? "" : ` + turn[${depth}] * ${stride}`))
    .join("");
  const at = `${offset + slot.start}${moves}`;
  return memory === "file" ? at : `${memory === "device" ? "d" : "h"}.${POINTERS[slot.type.dtype]}(${at})`;
}

/** What the calls of one program share. */
interface FileContext extends Pick<EmitContext, "threads" | "floats" | "loop"> {
  readonly added: AddedCalls;
}

function callOf(step: Step, plan: Plan, dialect: Dialect, { added, ...shared }: FileContext): string {
  const { node, lane } = step;
  const context: EmitContext = {
    ...shared,
    mesh: plan.mesh,
    call: (name, ...operands) => dialect.call(lane, name, operands),
    comm: (axis) => dialect.comm(lane, axis),
    inputs: step.inputs.map((slot) => pointer(slot, plan)),
    outputs: step.outputs.map((slot) => pointer(slot, plan)),
    workspace: step.workspace ? pointer(step.workspace, plan) : "nullptr",
    workspaceBytes: step.workspace ? plan.buffers[step.workspace.buffer].bytes : 0,
  };
  if (!isOpName(node.op)) return added.call(node, context);
  const kernel = dialect.kernels[node.op] as unknown as Kernel<"add">;
  return kernel.emit(node as never, context);
}

/** What the lines of one lane are made of. */
interface LaneContext {
  readonly lane: string;
  readonly plan: Plan;
  readonly events: Events;
  readonly lanesApart: boolean;
  readonly views: ReadonlyMap<number, StepView>;
  readonly functions: FunctionView[];
}

/**
 * The lines of a lane for `steps`, which are all inside the same `depth` loops; functions are cut on the way. Where one
 * function issues all lanes, an event stands for its last signal, and waits need not be made at a loop's border.
 */
function block(steps: readonly Step[], depth: number, context: LaneContext): LaneLine[] {
  const { lane, plan, events, lanesApart, views, functions } = context;
  const lines: LaneLine[] = [];
  const indent = "  ".repeat(depth + 1);
  let straight: StepView[] = [];
  const flush = () => {
    if (straight.length === 0) return;
    const name = `${lane}_${functions.length}`;
    functions.push({ name, steps: straight });
    lines.push({ indent, text: `${name}(rank, turn);` });
    straight = [];
  };
  for (let at = 0; at < steps.length; ) {
    const loop = steps[at].loops[depth];
    if (loop === undefined) {
      straight.push(views.get(steps[at].index) as StepView);
      if (straight.length === CALLS_PER_FUNCTION) flush();
      at++;
      continue;
    }
    flush();
    let end = at;
    while (end < steps.length && steps[end].loops[depth] === loop) end++;
    const inside = steps.slice(at, end);
    const border = (text: string) => lines.push({ indent, text });
    if (lanesApart) {
      for (const { event, signals } of events.waits(inside, depth))
        border(`rank.events[${event}].wait(${signals});`);
    }
    border(`for (turn[${depth}] = 0; turn[${depth}] < ${plan.loops[loop].times}; ++turn[${depth}]) {`);
    lines.push(...block(inside, depth + 1, context));
    border("}");
    if (lanesApart) {
      for (const event of events.signals(inside, depth)) border(`rank.events[${event}].signal();`);
    }
    at = end;
  }
  flush();
  return lines;
}
