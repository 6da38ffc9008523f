/**
 * @file Verifies that all that a plan's steps touch is there: loops hold their steps, slots lie in their buffers, buffers in
 * their arenas, and every byte is written before it is read. Race detection (race.ts) takes buffers as wholes and trusts this.
 */
import { recordOf } from "./ops/index.ts";
import { ALIGNMENT_BYTES, arenaBytes, type Plan, type Slot, type Step } from "./plan.ts";
import { localBytes } from "./type.ts";

/** What is wrong between two steps, or with one: then it is both. */
export interface Fault {
  readonly first: number;
  readonly second: number;
  readonly bytes: readonly [number, number];
  readonly message: string;
}

function fault(step: number, message: string, bytes: readonly [number, number] = [0, 0]): Fault {
  return { first: step, second: step, bytes, message };
}

/** Loops that do not hold the steps that say to be in them. Nothing else about such a plan can be told. */
export function loopFaults({ steps, loops }: Pick<Plan, "steps" | "loops">): Fault[] {
  const around = steps.map((): number[] => []);
  const races = loops.flatMap(({ times, first, last }, loop): Fault[] => {
    if (times < 1 || first > last || first < 0 || last >= steps.length) {
      return [fault(Math.max(0, first), `loop ${loop} runs steps ${first} to ${last} ${times} times`)];
    }
    for (let step = first; step <= last; step++) around[step].push(loop);
    return [];
  });
  steps.forEach((step, at) => {
    if (step.index !== at) races.push(fault(at, `step ${step.index} stands in place ${at}`));
    const { loops: own } = step;
    const isNested = own.every(
      (loop, i) =>
        i === 0 ||
        (loops[own[i - 1]]?.first <= loops[loop]?.first && loops[loop]?.last <= loops[own[i - 1]]?.last),
    );
    const isHeld = own.length === around[at].length && own.every((loop) => around[at].includes(loop));
    if (isHeld && isNested) return;
    races.push(
      fault(
        at,
        `step ${at} says to be in loops [${own.join(", ")}]; those around it are [${around[at].join(", ")}]`,
      ),
    );
  });
  return races;
}

/** Buffers outside their arenas, tensors that would not outlive a step, slots outside their buffers, results over operands. */
export function boundFaults(plan: Plan): Fault[] {
  return [
    ...bufferFaults(plan),
    ...tensorFaults(plan),
    ...plan.steps.flatMap((step) => slotFaults(plan, step)),
  ];
}

function bufferFaults(plan: Plan): Fault[] {
  return plan.buffers.flatMap(({ name, memory, offset, bytes, first }): Fault[] => {
    const end = offset + bytes;
    const size = arenaBytes(plan, memory);
    const range = [offset, end] as const;
    const at = Math.max(0, first);
    if (offset < 0 || end > size)
      return [fault(at, `%${name} ends at ${end}, behind the ${size} bytes of the ${memory} arena`, range)];
    if (offset % ALIGNMENT_BYTES !== 0)
      return [fault(at, `%${name} begins at ${offset}, not at a multiple of ${ALIGNMENT_BYTES}`, range)];
    return [];
  });
}

function tensorFaults({ tensors, buffers, mesh }: Plan): Fault[] {
  return tensors.flatMap(({ name, type, buffer }): Fault[] => {
    const { persistent, bytes, memory } = buffers[buffer];
    if (!persistent) return [fault(0, `the tensor %${name} lies where others may, once it has been used`)];
    if (localBytes(type, mesh) > bytes || memory !== type.memory)
      return [
        fault(
          0,
          `the tensor %${name} has ${localBytes(type, mesh)} bytes of ${type.memory} memory, its buffer ${bytes} of ${memory} memory`,
        ),
      ];
    return [];
  });
}

/** Bytes of a buffer that a slot takes over all turns of its loops. */
function reach({ loops, mesh }: Plan, step: Step, { start, strides, type }: Slot): readonly [number, number] {
  const moved = strides.reduce((bytes, stride, i) => bytes + stride * (loops[step.loops[i]].times - 1), 0);
  return [start, start + moved + localBytes(type, mesh)];
}

function slotFaults(plan: Plan, step: Step): Fault[] {
  const { inputs, outputs, workspace, index } = step;
  const written = workspace ? [...outputs, workspace] : outputs;
  const outside = [...inputs, ...written].flatMap((slot): Fault[] => {
    const { bytes, memory, offset } = plan.buffers[slot.buffer];
    if (slot.strides.length > step.loops.length || slot.strides.some((stride) => stride < 0))
      return [
        fault(
          index,
          `step ${index} moves %${slot.name} by ${slot.strides.join(", ")} in ${step.loops.length} loops`,
        ),
      ];
    const [start, end] = reach(plan, step, slot);
    if (start < 0 || end > bytes || memory !== slot.type.memory) {
      const where = `bytes ${start} to ${end} of ${slot.type.memory} memory`;
      const message = `step ${index} takes ${where} for %${slot.name}, whose buffer has ${bytes} of ${memory} memory`;
      return [fault(index, message, [offset + start, offset + end])];
    }
    return [];
  });
  if (outside.length > 0) return outside;
  const meet = (a: Slot, b: Slot): boolean => {
    if (a.buffer !== b.buffer) return false;
    const [[start, end], [from, to]] = [reach(plan, step, a), reach(plan, step, b)];
    return start < to && from < end;
  };
  const isSamePlace = (a: Slot, b: Slot): boolean =>
    a.start === b.start &&
    a.strides.join() === b.strides.join() &&
    localBytes(a.type, plan.mesh) === localBytes(b.type, plan.mesh);
  const clash = (a: Slot, b: Slot) =>
    fault(index, `step ${index} writes %${a.name} over %${b.name}, which ${step.node.op} still needs`);
  return written.flatMap((slot, i) => [
    ...inputs.flatMap((input, at) =>
      meet(slot, input) && !(mayOverwrite(step, i, at) && isSamePlace(slot, input))
        ? [clash(slot, input)]
        : [],
    ),
    ...written.slice(0, i).flatMap((other) => (meet(slot, other) ? [clash(slot, other)] : [])),
  ]);
}

/** Whether the kernel of a step may write a result over an operand. A workspace stands behind all results. */
function mayOverwrite({ node, outputs }: Step, output: number, input: number): boolean {
  if (output >= outputs.length) return false;
  if (node.op === "fused") return true;
  return (recordOf(node.op).overwrites ?? []).some(
    ([result, operand]) => result === output && operand === input,
  );
}

/** Bytes of a buffer, as pieces that do not touch, in order. */
class Bytes {
  #pieces: (readonly [number, number])[] = [];

  add(start: number, end: number): void {
    if (this.has(start, end)) return;
    const apart = this.#pieces.filter(([from, to]) => to < start || end < from);
    const near = this.#pieces.filter(([from, to]) => to >= start && end >= from).flat();
    this.#pieces = [...apart, [Math.min(start, ...near), Math.max(end, ...near)] as const].sort(
      (a, b) => a[0] - b[0],
    );
  }

  hasAny(start: number, end: number): boolean {
    return this.#pieces.some(([from, to]) => from < end && start < to);
  }

  has(start: number, end: number): boolean {
    return start === end || this.#pieces.some(([from, to]) => from <= start && end <= to);
  }
}

/**
 * Bytes that are read before a step wrote them, or handed out though none did. Every loop is followed for two turns, of
 * which later ones are repetitions further on.
 */
export function unwrittenReads(plan: Plan): Fault[] {
  const { steps, loops, buffers, tensors, mesh } = plan;
  const written = buffers.map(() => new Bytes());
  for (const { role, buffer } of tensors)
    if (role !== "output") written[buffer].add(0, buffers[buffer].bytes);
  const races = new Map<number, Fault>();
  const follow = (step: Step, turns: readonly number[]) => {
    const startOf = ({ start, strides }: Slot) =>
      strides.reduce((bytes, stride, i) => bytes + stride * turns[i], start);
    for (const slot of step.inputs) {
      const start = startOf(slot);
      const end = start + localBytes(slot.type, mesh);
      if (races.has(step.index) || written[slot.buffer].has(start, end)) continue;
      const { offset } = buffers[slot.buffer];
      const what = written[slot.buffer].hasAny(start, end)
        ? "not all of which is written yet"
        : "which nothing has written yet";
      const message = `step ${step.index} uses %${slot.name}, ${what}`;
      races.set(step.index, fault(step.index, message, [offset + start, offset + end]));
    }
    for (const slot of step.outputs) {
      const start = startOf(slot);
      written[slot.buffer].add(start, start + localBytes(slot.type, mesh));
    }
  };
  /** What a step in the loop has written once the loop has ended: that of all turns. */
  const finish = (step: Step, turns: readonly number[]) => {
    for (const { buffer, start, strides, type } of step.outputs) {
      let length = localBytes(type, mesh);
      let starts = [turns.reduce((bytes, turn, i) => bytes + turn * (strides[i] ?? 0), start)];
      for (let depth = strides.length - 1; depth >= turns.length; depth--) {
        const { times } = loops[step.loops[depth]];
        const stride = strides[depth];
        if (stride <= length) length += stride * (times - 1);
        else
          starts = starts.flatMap((own) => Array.from({ length: times }, (_, turn) => own + turn * stride));
      }
      for (const own of starts) written[buffer].add(own, own + length);
    }
  };
  const walk = (from: number, to: number, turns: readonly number[]) => {
    for (let at = from; at < to; ) {
      const loop = steps[at].loops[turns.length];
      if (loop === undefined) {
        follow(steps[at++], turns);
        continue;
      }
      const end = loops[loop].last + 1;
      for (let turn = 0; turn < Math.min(2, loops[loop].times); turn++) walk(at, end, [...turns, turn]);
      for (const step of steps.slice(at, end)) finish(step, turns);
      at = end;
    }
  };
  walk(0, steps.length, []);
  const lost = tensors.flatMap(({ name, role, buffer, type }): Fault[] =>
    role === "output" && !written[buffer].has(0, localBytes(type, mesh))
      ? [fault(steps.length - 1, `nothing writes all of the output %${name}`)]
      : [],
  );
  return [...races.values(), ...lost];
}
