/** @file What can be wrong with a plan, one thing at a time: each makes all plans that have it, and none of them may pass. */
import type { Buffer, Loop, Plan, Slot, Step } from "../../src/ir/plan.ts";
import { localBytes } from "../../src/ir/type.ts";

/** A plan with a fault, and where it is. */
export type Mutant = readonly [where: string, plan: Plan];
export type Mutation = (plan: Plan) => Mutant[];

function changed<T>(all: readonly T[], at: number, change: Partial<T>): readonly T[] {
  return all.map((own, i) => (i === at ? { ...own, ...change } : own));
}

const withStep = (plan: Plan, at: number, change: Partial<Step>): Plan => ({
  ...plan,
  steps: changed(plan.steps, at, change),
});

function slots(
  which: "inputs" | "outputs",
  change: (slot: Slot, plan: Plan, step: Step) => Partial<Slot> | null,
): Mutation {
  return (plan) =>
    plan.steps.flatMap((step) =>
      step[which].flatMap((slot, i): Mutant[] => {
        const own = change(slot, plan, step);
        if (own === null) return [];
        const where = `step ${step.index}, ${step.node.op} %${slot.name}`;
        return [[where, withStep(plan, step.index, { [which]: changed(step[which], i, own) })]];
      }),
    );
}

function buffers(change: (buffer: Buffer, plan: Plan) => Partial<Buffer>): Mutation {
  return (plan) => {
    const slots = plan.steps.flatMap(({ inputs, outputs, workspace }) => [...inputs, ...outputs, workspace]);
    const used = new Set([...slots, ...plan.tensors].map((own) => own?.buffer));
    return plan.buffers.flatMap((own, at): Mutant[] =>
      used.has(at)
        ? [[`buffer ${at}, %${own.name}`, { ...plan, buffers: changed(plan.buffers, at, change(own, plan)) }]]
        : [],
    );
  };
}

function loops(change: (loop: Loop) => Partial<Loop>): Mutation {
  return (plan) =>
    plan.loops.map((own, at) => [`loop ${at}`, { ...plan, loops: changed(plan.loops, at, change(own)) }]);
}

const behindItsPlace = ({ buffer, type }: Slot, { buffers, mesh }: Plan): Partial<Slot> => ({
  start: buffers[buffer].bytes - localBytes(type, mesh) + 4,
});

const twiceAsFar = ({ strides }: Slot, { loops }: Plan, step: Step): Partial<Slot> | null =>
  strides.some((stride, i) => stride > 0 && loops[step.loops[i]].times > 1)
    ? { strides: strides.map((stride) => 2 * stride) }
    : null;

/** Faults of any plan. */
export const mutations: Readonly<Record<string, Mutation>> = {
  "reads beyond a buffer": slots("inputs", behindItsPlace),
  "writes beyond a buffer": slots("outputs", behindItsPlace),
  "reads in steps too long": slots("inputs", twiceAsFar),
  "writes in steps too long": slots("outputs", twiceAsFar),
  "a buffer too small": buffers(({ bytes }) => ({ bytes: bytes - 2 })),
  "a buffer between alignments": buffers(({ offset }) => ({ offset: offset + 4 })),
  "a buffer of another memory": buffers(({ memory }) => ({ memory: memory === "host" ? "file" : "host" })),
  "a buffer at the arena's end": buffers(({ memory, bytes }, plan) => ({
    offset: { device: plan.deviceBytes, host: plan.hostBytes, file: plan.fileBytes }[memory] - bytes + 256,
  })),
  "an arena too small": (plan) => {
    const sizes = ["deviceBytes", "hostBytes", "fileBytes"] as const;
    return sizes.filter((own) => plan[own] > 0).map((own) => [own, { ...plan, [own]: plan[own] - 256 }]);
  },
  "a tensor whose bytes are given away": (plan) =>
    plan.tensors.map(({ name, buffer }) => [
      name,
      {
        ...plan,
        buffers: changed(plan.buffers, buffer, { persistent: false, first: 0, last: plan.steps.length - 1 }),
      },
    ]),
  "scratch over an operand": (plan) =>
    plan.steps.flatMap(({ index, inputs, workspace, node }): Mutant[] =>
      workspace
        ? inputs.map(({ buffer, start, strides, type }) => [
            `step ${index}, ${node.op}`,
            withStep(plan, index, { workspace: { ...workspace, buffer, start, strides, type } }),
          ])
        : [],
    ),
  "a product over its factor": (plan) =>
    plan.steps
      .filter(({ node }) => node.op === "matmul")
      .flatMap(({ index, inputs, outputs }) =>
        inputs.map(({ buffer, start, strides, type }): Mutant => {
          const over = changed(outputs, 0, { buffer, start, strides, type });
          return [`step ${index}`, withStep(plan, index, { outputs: over })];
        }),
      ),
  "a wait for the step before the right one": (plan) =>
    plan.steps.flatMap(({ index, waits }) =>
      waits.flatMap((wait): Mutant[] => {
        const { lane, loops: around } = plan.steps[wait];
        const earlier = plan.steps.filter(
          (own) => own.lane === lane && own.index < wait && own.loops.join() === around.join(),
        );
        const before = earlier.at(-1)?.index;
        if (before === undefined || waits.includes(before) || before < index !== wait < index) return [];
        const others = waits.map((own) => (own === wait ? before : own));
        return [[`step ${index}, ${before} for ${wait}`, withStep(plan, index, { waits: others })]];
      }),
    ),
  "a loop that ends a step early": loops(({ last }) => ({ last: last - 1 })),
  "a loop that ends a step late": loops(({ last }) => ({ last: last + 1 })),
  "a loop that begins a step late": loops(({ first }) => ({ first: first + 1 })),
};

/** Faults of a plan of which every value is read. */
export const mutationsOfUsed: Readonly<Record<string, Mutation>> = {
  "every turn writes where the first one did": slots("outputs", ({ strides }) =>
    strides.some((stride) => stride > 0) ? { strides: strides.map(() => 0) } : null,
  ),
  "a loop with a turn less": loops(({ times }) => ({ times: times - 1 })),
  "a loop with a turn more": loops(({ times }) => ({ times: times + 1 })),
  "a copy before what it copies": (plan) => early(plan, ({ lane }) => lane !== "compute"),
};

/** Steps that run before the one in front of them, whose result they read. */
function early({ steps, ...plan }: Plan, isMeant: (step: Step) => boolean): Mutant[] {
  return steps.flatMap((step, at): Mutant[] => {
    const reads = new Set(step.inputs.map(({ buffer }) => buffer));
    const maker = steps.findIndex(({ outputs }) => outputs.some(({ buffer }) => reads.has(buffer)));
    if (!isMeant(step) || maker < 0 || maker >= at) return [];
    const { loops: around } = step;
    if (steps.slice(maker, at).some(({ loops: own }) => own.join() !== around.join())) return [];
    const order = [...steps.slice(0, maker), step, ...steps.slice(maker, at), ...steps.slice(at + 1)];
    const places = new Map(order.map((own, i) => [own.index, i]));
    const moved = order.map((own, index) => ({
      ...own,
      index,
      waits: own.waits.map((wait) => places.get(wait) as number),
    }));
    return [[`step ${at}, ${step.node.op}, before step ${maker}`, { ...plan, steps: moved }]];
  });
}
