/**
 * @file Schedules a graph: nodes become steps on lanes, values become buffers, loops are laid out.
 *
 * Collectives run on the lane `comm`, copies between memories on a lane for each way (lanes.ts), everything else on
 * `compute`. A result lies in its operand's buffer where the op only reads the bytes in another shape, and where its
 * kernel may write over an operand that nobody reads any more. The update of a parameter is written over the
 * parameter. `repeat` and `tile` become loops over steps: what differs from turn to turn is a stride on a slot.
 *
 * Offsets are not known here: plan-memory gives them, once all lifetimes are. The file is longer than others because it
 * is one walk over the graph, whose state (buffers, reads to come, open loops) every kind of node shares.
 */
import { UserError } from "../ir/error.ts";
import type { Graph, Node, Region, Value } from "../ir/graph.ts";
import { escaping } from "../ir/graph.ts";
import { recordOf } from "../ir/ops/index.ts";
import type { Buffer, BufferKind, Lane, Loop, Plan, PlanTensor, Slot, Step } from "../ir/plan.ts";
import { lastPart, tileAttrs } from "../ir/tiles.ts";
import { DTYPE_BYTES, localBytes, localSizes, memberOf, type TensorType, tensor } from "../ir/type.ts";
import { gradientsOf } from "./gradients.ts";
import { laneOf } from "./lanes.ts";
import { orderNodes } from "./order.ts";
import { ontoTotal, splitAddends } from "./products.ts";

/** What the planner asks of a backend. */
export interface Target {
  /** Scratch that the kernel of a node needs while it runs, in bytes. */
  workspaceBytes(node: Node): number;
}

/** A buffer while its lifetime is still growing. */
interface Draft {
  readonly name: string;
  readonly kind: BufferKind;
  readonly memory: TensorType["memory"];
  readonly bytes: number;
  readonly persistent: boolean;
  /** How many loops were open where it was made: an inner loop must not overwrite it. */
  readonly depth: number;
  first: number;
  last: number;
}

/** A plan whose buffers all lie at offset 0. */
export function schedule(graph: Graph, target: Target): Plan {
  return new Scheduler(graph, target).plan();
}

type Slots = Map<Value, Slot>;

class Scheduler {
  readonly #graph: Graph;
  readonly #target: Target;
  readonly #drafts: Draft[] = [];
  readonly #steps: Step[] = [];
  readonly #loops: { times: number; first: number; last: number }[] = [];
  /** Loops that are open, outermost first. */
  readonly #open: number[] = [];
  /** Reads still to come of each buffer; a buffer at zero may be overwritten. */
  readonly #reads = new Map<number, number>();
  readonly #gradients: ReadonlySet<Value>;

  constructor(graph: Graph, target: Target) {
    this.#graph = graph;
    this.#target = target;
    this.#gradients = gradientsOf(graph);
  }

  plan(): Plan {
    const { params, outputs, updates, nodes, mesh, name } = this.#graph;
    const slots: Slots = new Map();
    const tensors: PlanTensor[] = [];
    const kinds = { input: "inputs", param: "parameters", state: "optimizer" } as const;
    for (const { role, value, init } of params) {
      const slot = this.#persistent(value, kinds[role]);
      slots.set(value, slot);
      tensors.push({ name: value.name, role, type: value.type, init, buffer: slot.buffer });
    }
    const destinations: Slots = new Map();
    const given = new Set(params.map(({ value }) => value));
    for (const { value } of outputs) {
      if (!given.has(value) && !destinations.has(value))
        destinations.set(value, this.#persistent(value, "activations"));
    }
    for (const { param, value } of updates) destinations.set(value, slots.get(param) as Slot);
    const ordered = orderNodes({ nodes, exits: escaping(this.#graph), updates, mesh });
    this.#region(ordered, escaping(this.#graph), slots, destinations);
    // Outputs first: they may be what an updated parameter held before.
    const changed = new Set(updates.map(({ value }) => value));
    for (const { name: output, value } of outputs) {
      const slot = slots.get(value) as Slot;
      const kept = destinations.get(value) ?? slot;
      if (!changed.has(value)) this.#copy(slot, kept);
      tensors.push({ name: output, role: "output", type: value.type, init: "", buffer: kept.buffer });
    }
    this.#handOn(
      updates.map(({ value }) => slots.get(value) as Slot),
      updates.map(({ param }) => slots.get(param) as Slot),
    );
    this.#leaveTimeToCopy("to_host");
    this.#leaveTimeToCopy("to_file");
    const buffers = this.#drafts.map(({ depth: _, ...draft }): Buffer => ({ ...draft, offset: 0 }));
    const loops: readonly Loop[] = this.#loops;
    return {
      name,
      mesh,
      steps: this.#steps,
      loops,
      buffers,
      tensors,
      deviceBytes: 0,
      hostBytes: 0,
      fileBytes: 0,
      deviceLowerBound: 0,
    };
  }

  /**
   * What goes to the host, or to the file, keeps its bytes until the next copies that way begin: what takes them would
   * otherwise stand still, and so a copy has as long as a layer takes, or the update of a parameter.
   */
  #leaveTimeToCopy(way: Lane): void {
    const copies = this.#steps.filter(({ lane }) => lane === way);
    const isState = ({ inputs }: Step) => this.#drafts[inputs[0].buffer].kind === "optimizer";
    for (const copy of copies) {
      const { index, inputs, loops } = copy;
      const next = copies.find(
        (other) =>
          other.index > index &&
          isState(other) === isState(copy) &&
          this.#hasComputeBetween(index, other.index),
      );
      if (next?.loops.join() !== loops.join()) continue;
      for (const { buffer } of inputs) {
        if (this.#drafts[buffer].depth === loops.length) this.#touch(buffer, next.index);
      }
    }
  }

  #hasComputeBetween(first: number, last: number): boolean {
    return this.#steps.slice(first, last).some(({ lane }) => lane === "compute");
  }

  #buffer(name: string, kind: BufferKind, type: TensorType, persistent = false): number {
    const at = this.#steps.length;
    const bytes = localBytes(type, this.#graph.mesh);
    return (
      this.#drafts.push({
        name,
        kind,
        memory: type.memory,
        bytes,
        persistent,
        depth: this.#open.length,
        first: at,
        last: at,
      }) - 1
    );
  }

  #slot(value: Value, buffer: number): Slot {
    return { name: value.name, type: value.type, buffer, start: 0, strides: this.#open.map(() => 0) };
  }

  #persistent(value: Value, kind: BufferKind): Slot {
    return this.#slot(value, this.#buffer(value.name, kind, value.type, true));
  }

  /** Lowers `nodes`, which run in this order. Afterwards `slots` has every value of theirs. */
  #region(nodes: readonly Node[], exits: readonly Value[], slots: Slots, destinations: Slots): void {
    const reads = new Map<Value, number>();
    for (const node of nodes)
      for (const operand of node.operands) reads.set(operand, (reads.get(operand) ?? 0) + 1);
    for (const exit of exits) reads.set(exit, (reads.get(exit) ?? 0) + 1);
    const expect = (value: Value, slot: Slot) => {
      this.#reads.set(slot.buffer, (this.#reads.get(slot.buffer) ?? 0) + (reads.get(value) ?? 0));
    };
    for (const [value, slot] of slots) expect(value, slot);
    for (const node of nodes) {
      const inputs = node.operands.map((operand) => slots.get(operand) as Slot);
      for (const { buffer } of inputs) {
        this.#reads.set(buffer, (this.#reads.get(buffer) as number) - 1);
      }
      const results = this.#node(node, inputs, destinations);
      node.results.forEach((result, i) => {
        slots.set(result, results[i]);
        expect(result, results[i]);
      });
    }
  }

  #node(node: Node, inputs: readonly Slot[], destinations: Slots): Slot[] {
    if (recordOf(node.op).alias)
      return [{ ...inputs[0], name: node.results[0].name, type: node.results[0].type }];
    if (node.op === "repeat" && node.body) return this.#repeat(node, node.body, inputs);
    if (node.op === "tile" && node.body) return this.#tile(node, node.body, inputs, destinations);
    if (node.op === "checkpoint" && node.body) return this.#inline(node, node.body, inputs, destinations);
    const taken = new Set<number>();
    const outputs = node.results.map((result, i) =>
      this.#place(node, result, i, inputs, destinations, taken),
    );
    this.#step(node, inputs, outputs);
    return outputs;
  }

  /** Where a result is written: where it is wanted, over an operand that is done with, or in a buffer of its own. */
  #place(
    node: Node,
    result: Value,
    index: number,
    inputs: readonly Slot[],
    destinations: Slots,
    taken: Set<number>,
  ): Slot {
    const wanted = destinations.get(result);
    const over = this.#overwritable(node, index);
    if (wanted) {
      // What lies there now must have been read for the last time, or by a kernel that may write over it.
      const clash = inputs.some((input, i) => input.buffer === wanted.buffer && !over.includes(i));
      if (!clash && !this.#isAwaited(wanted.buffer))
        return { ...wanted, name: result.name, type: result.type };
    }
    for (const at of over) {
      const { buffer, start, strides, type } = inputs[at];
      const fits =
        DTYPE_BYTES[type.dtype] === DTYPE_BYTES[result.type.dtype] &&
        localBytes(type, this.#graph.mesh) === localBytes(result.type, this.#graph.mesh);
      const isWhole =
        start === 0 &&
        strides.every((stride) => stride === 0) &&
        this.#drafts[buffer].bytes === localBytes(type, this.#graph.mesh);
      if (!fits || !isWhole || !this.#isFree(buffer) || taken.has(buffer)) continue;
      taken.add(buffer);
      return this.#slot(result, buffer);
    }
    const copied = node.op === "reload" && this.#drafts[inputs[0].buffer].kind === "optimizer";
    const kind = copied ? "optimizer" : laneOf(node) === "comm" ? "communication" : "activations";
    return this.#slot(result, this.#buffer(result.name, this.#kindOf(result, kind), result.type));
  }

  #kindOf(value: Value, otherwise: BufferKind = "activations"): BufferKind {
    return this.#gradients.has(value) ? "gradients" : otherwise;
  }

  /** Whether nobody will read the buffer any more, and it was made in the loop that is open now. */
  #isFree(buffer: number): boolean {
    const { persistent, depth } = this.#drafts[buffer];
    return !persistent && depth === this.#open.length && !this.#isAwaited(buffer);
  }

  #isAwaited(buffer: number): boolean {
    return (this.#reads.get(buffer) ?? 0) > 0;
  }

  /** Operands that the kernel may write result `index` over. */
  #overwritable(node: Node, index: number): number[] {
    if (node.op === "fused") return node.operands.map((_, i) => i);
    return (recordOf(node.op).overwrites ?? [])
      .filter(([result]) => result === index)
      .map(([, operand]) => operand);
  }

  #step(node: Node, inputs: readonly Slot[], outputs: readonly Slot[]): void {
    const bytes = this.#target.workspaceBytes(node);
    const scratch = {
      name: `${node.results[0]?.name ?? node.op}.workspace`,
      type: tensor("f32", [Math.ceil(bytes / 4)]),
    };
    const workspace =
      bytes > 0 ? this.#slot(scratch, this.#buffer(scratch.name, "workspace", scratch.type)) : null;
    const index = this.#steps.length;
    for (const slot of [...inputs, ...outputs, ...(workspace ? [workspace] : [])])
      this.#touch(slot.buffer, index);
    this.#steps.push({
      index,
      lane: laneOf(node),
      node,
      inputs,
      outputs,
      workspace,
      waits: [],
      loops: [...this.#open],
    });
  }

  #touch(buffer: number, step: number): void {
    const draft = this.#drafts[buffer];
    draft.first = Math.min(draft.first, step);
    draft.last = Math.max(draft.last, step);
  }

  /** A step that copies, unless source and destination are the same bytes. */
  #copy(from: Slot, to: Slot): void {
    const where = ({ buffer, start, strides }: Slot) => [buffer, start, ...strides].join();
    if (where(from) === where(to)) return;
    const value = { name: from.name, type: from.type };
    this.#step(
      {
        op: "cast",
        operands: [value],
        attrs: { dtype: from.type.dtype },
        results: [{ ...value }],
        body: null,
        loc: "",
      },
      [from],
      [to],
    );
  }

  /** A step that fills a slot with zeros. */
  #zero(slot: Slot): void {
    const dims = localSizes(slot.type, this.#graph.mesh);
    const attrs = { value: 0, dims, dtype: slot.type.dtype };
    this.#step({ op: "constant", operands: [], attrs, results: [slot], body: null, loc: "" }, [], [slot]);
  }

  /** Runs `lower` with a loop open; afterwards everything from outside that it touched lives to the loop's end. */
  #loop(times: number, lower: () => void): void {
    const first = this.#steps.length;
    const loop = { times, first, last: first };
    this.#open.push(this.#loops.push(loop) - 1);
    lower();
    this.#open.pop();
    loop.last = this.#steps.length - 1;
    for (const step of this.#steps.slice(first)) {
      for (const slot of [...step.inputs, ...step.outputs]) {
        if (this.#drafts[slot.buffer].depth > this.#open.length) continue;
        this.#touch(slot.buffer, first);
        this.#touch(slot.buffer, loop.last);
      }
    }
  }

  #inner(slot: Slot, type: TensorType, stride: number): Slot {
    return { ...slot, type, strides: [...slot.strides, stride] };
  }

  #repeat(node: Node, body: Region, inputs: readonly Slot[]): Slot[] {
    const { times, carry } = node.attrs as { times: number; carry: number };
    const carried = inputs.slice(0, carry).map((input, i): Slot => {
      // Two that begin as one value, or one that is read as it was, need a place of their own.
      if (this.#isFree(input.buffer) && inputs.every(({ buffer }, at) => at === i || buffer !== input.buffer))
        return input;
      const own = this.#slot(
        node.results[i],
        this.#buffer(node.results[i].name, this.#kindOf(node.results[i]), node.results[i].type),
      );
      this.#copy(input, own);
      return own;
    });
    this.#loop(times, () => {
      const slots: Slots = new Map();
      body.params.forEach((param, i) => {
        const slot = i < carry ? carried[i] : inputs[i];
        const stride = slot.type.times === null ? 0 : localBytes(memberOf(slot.type), this.#graph.mesh);
        slots.set(param, this.#inner(slot, param.type, stride));
      });
      const destinations: Slots = new Map(
        body.returns.map((value, i) => [value, this.#inner(carried[i], value.type, 0)]),
      );
      this.#region(this.#ordered(body.nodes, body.returns), body.returns, slots, destinations);
      this.#handOn(
        body.returns.map((value) => slots.get(value) as Slot),
        carried.map((slot, i) => this.#inner(slot, body.returns[i].type, 0)),
      );
    });
    return carried.map((slot, i) => ({ ...slot, name: node.results[i].name, type: node.results[i].type }));
  }

  /** Copies each value to its place, where the next turn finds it. What lies in another's place goes aside first. */
  #handOn(values: readonly Slot[], places: readonly Slot[]): void {
    const safe = values.map((slot, i) => {
      const inTheWay = places.some((other, at) => at !== i && other.buffer === slot.buffer);
      if (!inTheWay) return slot;
      const aside = this.#slot(slot, this.#buffer(`${slot.name}.aside`, "activations", slot.type));
      this.#copy(slot, aside);
      return aside;
    });
    safe.forEach((slot, i) => {
      this.#copy(slot, places[i]);
    });
  }

  /** The body's steps in the node's place. */
  #inline(node: Node, body: Region, inputs: readonly Slot[], destinations: Slots): Slot[] {
    const slots: Slots = new Map(body.params.map((param, i) => [param, { ...inputs[i], name: param.name }]));
    const wanted: Slots = new Map();
    node.results.forEach((result, i) => {
      const destination = destinations.get(result);
      if (destination) wanted.set(body.returns[i], destination);
    });
    this.#region(this.#ordered(body.nodes, body.returns), body.returns, slots, wanted);
    return body.returns.map((value, i) => {
      const slot = slots.get(value) as Slot;
      // From here on the node's own readers count.
      this.#reads.set(slot.buffer, (this.#reads.get(slot.buffer) ?? 0) - 1);
      return { ...slot, name: node.results[i].name };
    });
  }

  #ordered(nodes: readonly Node[], exits: readonly Value[]): Node[] {
    return orderNodes({ nodes, exits, updates: [], mesh: this.#graph.mesh });
  }

  #tile(node: Node, body: Region, inputs: readonly Slot[], destinations: Slots): Slot[] {
    const { tiles, rest, split, join } = tileAttrs(node);
    const results = node.results.map((result) => {
      const wanted = destinations.get(result);
      // Parts are written while others are still read: the place must be nobody else's by now.
      const free =
        wanted && !this.#isAwaited(wanted.buffer) && inputs.every(({ buffer }) => buffer !== wanted.buffer);
      return free ? wanted : this.#slot(result, this.#buffer(result.name, this.#kindOf(result), result.type));
    });
    results.forEach((slot, i) => {
      if (join[i] < 0) this.#zero(slot);
    });
    const strides = (types: readonly TensorType[], parts: readonly Value[], dims: readonly number[]) =>
      parts.map(({ type }, i) => this.#partBytes(types[i], type, dims[i], node.loc));
    const from = strides(
      inputs.map(({ type }) => type),
      body.params,
      split,
    );
    const to = strides(
      results.map(({ type }) => type),
      body.returns,
      join,
    );
    const turns = rest === 0 ? tiles : tiles - 1;
    this.#loop(turns, () => {
      const move = (slot: Slot, value: Value, stride: number) => this.#inner(slot, value.type, stride);
      this.#part(
        body,
        join,
        inputs.map((slot, i) => move(slot, body.params[i], from[i])),
        results.map((slot, i) => move(slot, body.returns[i], to[i])),
      );
    });
    if (rest === 0) return results;
    const last = lastPart(node, this.#graph.mesh);
    const move = (slot: Slot, value: Value, stride: number): Slot => ({
      ...slot,
      type: value.type,
      start: slot.start + turns * stride,
    });
    this.#part(
      last,
      join,
      inputs.map((slot, i) => move(slot, last.params[i], from[i])),
      results.map((slot, i) => move(slot, last.returns[i], to[i])),
    );
    return results;
  }

  /** Bytes of a part of `whole` along `dim`, which must lie together: 0 where nothing is cut. */
  #partBytes(whole: TensorType, part: TensorType, dim: number, location: string): number {
    if (dim < 0) return 0;
    const rows = localSizes(whole, this.#graph.mesh).slice(0, dim);
    if (rows.some((size) => size !== 1)) {
      throw new UserError(
        `tile cuts dimension ${dim}, in front of which the rank's share has more than one row`,
        { location, remedy: "Use a micro batch of 1, or tile the first dimension." },
      );
    }
    return localBytes(part, this.#graph.mesh);
  }

  /** One run of a tile's body: `inputs` and `parts` are what it sees of the operands and of the results. */
  #part(body: Region, join: readonly number[], inputs: readonly Slot[], parts: readonly Slot[]): void {
    const { nodes, addends } = splitAddends(body, join);
    const slots: Slots = new Map(body.params.map((param, i) => [param, inputs[i]]));
    const wanted: Slots = new Map();
    body.returns.forEach((value, i) => {
      if (join[i] >= 0) wanted.set(value, parts[i]);
    });
    const factors = [...addends.values()].flatMap((addend) => addend.operands);
    const exits = [...body.returns.filter((value) => !addends.has(value)), ...factors];
    this.#region(this.#ordered(nodes, exits), exits, slots, wanted);
    body.returns.forEach((value, i) => {
      const addend = addends.get(value);
      if (addend) this.#addOnto(parts[i], addend, slots);
      else if (join[i] >= 0) this.#copy(slots.get(value) as Slot, parts[i]);
      else this.#add(parts[i], slots.get(value) as Slot);
    });
  }

  /** A step that adds what a node makes onto `total`, in place, without it ever lying in memory. */
  #addOnto(total: Slot, addend: Node, slots: Slots): void {
    const inputs = [...addend.operands.map((operand) => slots.get(operand) as Slot), total];
    const operands = inputs.map(({ name, type }) => ({ name, type }));
    this.#step(ontoTotal(addend, operands.slice(0, -1), operands[operands.length - 1]), inputs, [total]);
  }

  /** A step that adds `value` onto `total`, in place. */
  #add(total: Slot, value: Slot): void {
    const operands = [total, value].map(({ name, type }) => ({ name, type }));
    this.#step(
      { op: "add", operands, attrs: {}, results: [{ ...operands[0] }], body: null, loc: "" },
      [total, value],
      [total],
    );
  }
}
