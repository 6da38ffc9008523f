/**
 * @file Runs a plan as the machine would, in float64: on arenas, at byte offsets, lanes in any order that events allow.
 *
 * Bytes that nobody has written read as NaN, and a value half overwritten by another does too. So what comes out
 * equals the graph's own numbers only if every slot, lifetime, stride and wait is right.
 */
import { type NDArray, product } from "../../src/ir/array.ts";
import type { Node } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { recordOf } from "../../src/ir/ops/index.ts";
import { type Lane, lanes, type Plan, type Slot, type Step } from "../../src/ir/plan.ts";
import { DTYPE_BYTES, type Memory, sizesOf } from "../../src/ir/type.ts";

/** One cell for every two bytes: the first cell of an element holds its value, a second one NaN. */
const CELL_BYTES = 2;

type Arenas = Readonly<Record<Memory, Float64Array>>;

type Turns = ReadonlyMap<number, number>;

/** What a lane does next: a step in one turn of its loops, or a wait for so many signals of an event, or a signal. */
type Instruction =
  | { readonly kind: "step"; readonly step: Step; readonly turns: Turns }
  | { readonly kind: "wait"; readonly event: string; readonly signals: number }
  | { readonly kind: "signal"; readonly event: string };

export interface PlanResult {
  readonly outputs: Map<string, Float64Array>;
  /** Parameters and states after the step. */
  readonly kept: Map<string, Float64Array>;
}

/** Runs one step of a plan for a single rank. `choose` picks the next of the lanes that can go on: below its argument. */
export function runPlan(
  plan: Plan,
  arrays: ReadonlyMap<string, NDArray>,
  choose: (count: number) => number = () => 0,
): PlanResult {
  const arenas: Arenas = {
    device: new Float64Array(plan.deviceBytes / CELL_BYTES).fill(Number.NaN),
    host: new Float64Array(plan.hostBytes / CELL_BYTES).fill(Number.NaN),
    file: new Float64Array(plan.fileBytes / CELL_BYTES).fill(Number.NaN),
  };
  for (const { name, role, type, buffer } of plan.tensors) {
    if (role !== "output") write(plan, arenas, whole(name, type, buffer), [], arrays.get(name) as NDArray);
  }
  const signals = new Map<string, number>();
  const queues = new Map(lanes.map((lane) => [lane, programOf(plan, lane)]));
  for (;;) {
    const open = lanes.filter((lane) => (queues.get(lane) as Instruction[]).length > 0);
    if (open.length === 0) break;
    const able = open.filter((lane) => canRun((queues.get(lane) as Instruction[])[0], signals));
    if (able.length === 0) throw new Error(`lanes ${open.join(", ")} wait for each other`);
    const lane = able[choose(able.length)];
    const next = (queues.get(lane) as Instruction[]).shift() as Instruction;
    if (next.kind === "step") runStep(plan, arenas, next.step, next.turns);
    if (next.kind === "signal") signals.set(next.event, (signals.get(next.event) ?? 0) + 1);
  }
  const values = (wanted: readonly string[]) =>
    plan.tensors
      .filter(({ role }) => wanted.includes(role))
      .map(
        ({ name, type, buffer }) => [name, read(plan, arenas, whole(name, type, buffer), []).data] as const,
      );
  return { outputs: new Map(values(["output"])), kept: new Map(values(["param", "state"])) };
}

/** As runtime/include/ithaca/lane.h has it. */
function canRun(next: Instruction, signals: ReadonlyMap<string, number>): boolean {
  return next.kind !== "wait" || (signals.get(next.event) ?? 0) >= next.signals;
}

/** How deep two steps are in the same loops. */
function together(a: Step, b: Step): number {
  const apart = a.loops.findIndex((loop, depth) => b.loops[depth] !== loop);
  return apart < 0 ? a.loops.length : apart;
}

/** The instructions of a lane with its loops written out, and what lies at their borders. */
function programOf(plan: Plan, lane: Lane): Instruction[] {
  const waitsAt = (steps: readonly Step[], depth: number, turns: Turns) =>
    steps.flatMap((step) =>
      step.waits
        .map((before) => plan.steps[before])
        .filter((other) => together(step, other) === depth)
        .map((other): Instruction => {
          const loops = step.loops.slice(0, depth);
          const turn = loops.reduce(
            (at, loop) => at * plan.loops[loop].times + (turns.get(loop) as number),
            0,
          );
          const signals = other.index < step.index ? turn + 1 : turn;
          return { kind: "wait", event: `${other.index} inside ${depth}`, signals };
        }),
    );
  const signalsAt = (steps: readonly Step[], depth: number) =>
    steps.map(({ index }): Instruction => ({ kind: "signal", event: `${index} inside ${depth}` }));
  const lay = (steps: readonly Step[], depth: number, turns: Turns): Instruction[] => {
    const out: Instruction[] = [];
    for (let at = 0; at < steps.length; ) {
      const loop = steps[at].loops[depth];
      let end = at + 1;
      while (loop !== undefined && end < steps.length && steps[end].loops[depth] === loop) end++;
      const own = steps.slice(at, end);
      out.push(...waitsAt(own, depth, turns));
      if (loop === undefined) out.push({ kind: "step", step: own[0], turns });
      for (let turn = 0; loop !== undefined && turn < plan.loops[loop].times; turn++)
        out.push(...lay(own, depth + 1, new Map([...turns, [loop, turn]])));
      out.push(...signalsAt(own, depth));
      at = end;
    }
    return out;
  };
  const steps = plan.steps.filter((step) => step.lane === lane);
  return lay(steps, 0, new Map());
}

function runStep(plan: Plan, arenas: Arenas, step: Step, turns: Turns): void {
  const at = step.loops.map((loop) => turns.get(loop) as number);
  const inputs = step.inputs.map((slot) => read(plan, arenas, slot, at));
  const results = evaluate(step.node, inputs);
  if (step.workspace) {
    const sizes = sizesOf(step.workspace.type);
    write(plan, arenas, step.workspace, at, {
      sizes,
      data: new Float64Array(product(sizes)).fill(Number.NaN),
    });
  }
  step.outputs.forEach((slot, i) => {
    write(plan, arenas, slot, at, results[i]);
  });
}

function evaluate(node: Node, inputs: readonly NDArray[]): readonly NDArray[] {
  const { body } = node;
  if (!body) {
    const sizes = node.results.map(({ type }) => sizesOf(type));
    return (
      recordOf(node.op).eval?.(
        inputs,
        node.attrs,
        sizes,
        sizes.map((own) => own.map(() => 0)),
      ) ?? []
    );
  }
  const { outputs } = interpret(
    {
      name: node.op,
      mesh: new Map(),
      params: body.params.map((value) => ({ role: "input", value, init: "" })),
      nodes: body.nodes,
      outputs: body.returns.map((value, i) => ({ name: String(i), value })),
      updates: [],
    },
    new Map(body.params.map(({ name }, i) => [name, inputs[i]])),
  );
  return [...outputs.values()];
}

function whole(name: string, type: Slot["type"], buffer: number): Slot {
  return { name, type, buffer, start: 0, strides: [] };
}

/** First cell of a slot, its elements and cells per element. */
function locate(plan: Plan, slot: Slot, turns: readonly number[]) {
  const { offset, memory } = plan.buffers[slot.buffer];
  const moved = slot.strides.reduce(
    (bytes, stride, depth) => bytes + stride * (turns[depth] ?? 0),
    offset + slot.start,
  );
  const sizes = [...(slot.type.times === null ? [] : [slot.type.times]), ...sizesOf(slot.type)];
  return { memory, first: moved / CELL_BYTES, cells: DTYPE_BYTES[slot.type.dtype] / CELL_BYTES, sizes };
}

function read(plan: Plan, arenas: Arenas, slot: Slot, turns: readonly number[]): NDArray {
  const { memory, first, cells, sizes } = locate(plan, slot, turns);
  const data = new Float64Array(product(sizes)).map((_, i) => arenas[memory][first + i * cells]);
  return { sizes, data };
}

function write(plan: Plan, arenas: Arenas, slot: Slot, turns: readonly number[], { data }: NDArray): void {
  const { memory, first, cells } = locate(plan, slot, turns);
  data.forEach((value, i) => {
    arenas[memory].fill(Number.NaN, first + i * cells, first + (i + 1) * cells);
    arenas[memory][first + i * cells] = value;
  });
}
