/**
 * @file Where buffers lie in an arena: first fit for dynamic storage allocation (Gergov 1999). Each buffer is placed at the
 * lowest offset where no placed buffer lies that is alive at the same time. Which comes first decides how well it fits, and no
 * one order is best for all programs, so three are tried: the largest first, the longest-lived largest first, and in order
 * of birth; the smallest arena wins.
 */
import { aligned, type Buffer, peak } from "../ir/plan.ts";
import type { Memory } from "../ir/type.ts";

/** What decides where a buffer can lie. */
export type Placeable = Pick<Buffer, "memory" | "bytes" | "persistent" | "first" | "last">;

export interface Placement {
  /** One for each buffer; 0 for those of other memories. */
  readonly offsets: readonly number[];
  readonly bytes: number;
}

type Order = (a: Placeable, b: Placeable) => number;

const ORDERS: readonly Order[] = [
  (a, b) => b.bytes - a.bytes || a.first - b.first,
  (a, b) => b.bytes * (b.last - b.first + 1) - a.bytes * (a.last - a.first + 1),
  (a, b) => a.first - b.first || b.bytes - a.bytes,
];

/** A placement this close to the lower bound is taken without trying the other orders. */
const GOOD_ENOUGH = 1.002;

/** Offsets in the arena of `memory`, and its size: the best of the orders. Persistent buffers lie at the bottom. */
export function placeBest(buffers: readonly Placeable[], memory: Memory): Placement {
  const length = buffers.reduce((most, { last }) => Math.max(most, last + 1), 0);
  const bound = peak({ buffers, steps: { length } }, memory).bytes;
  const columns: Columns = {
    first: new Int32Array(buffers.map(({ first }) => first)),
    last: new Int32Array(buffers.map(({ last }) => last)),
    sizes: new Float64Array(buffers.map(({ bytes }) => aligned(bytes))),
    length,
  };
  let best: Placement | null = null;
  for (const order of ORDERS) {
    const placement = place(buffers, memory, order, columns);
    if (!best || placement.bytes < best.bytes) best = placement;
    if (best.bytes <= bound * GOOD_ENOUGH) break;
  }
  return best as Placement;
}

/** All buffers as arrays of numbers, since placement is the compiler's hottest loop. */
interface Columns {
  readonly first: Int32Array;
  readonly last: Int32Array;
  readonly sizes: Float64Array;
  /** The number of steps. */
  readonly length: number;
}

/** First fit in the given order. */
function place(
  buffers: readonly Placeable[],
  memory: Memory,
  order: Order,
  { first, last, sizes, length }: Columns,
): Placement {
  const offsets = new Float64Array(buffers.length);
  const indices: number[] = [];
  let bottom = 0;
  buffers.forEach((buffer, i) => {
    if (buffer.memory !== memory) return;
    if (!buffer.persistent) indices.push(i);
    else {
      offsets[i] = bottom;
      bottom += sizes[i];
    }
  });
  indices.sort((a, b) => order(buffers[a], buffers[b]));
  const placed = new Timeline(offsets, length);
  let top = bottom;
  for (const index of indices) {
    const [birth, death, size] = [first[index], last[index], sizes[index]];
    let offset = bottom;
    for (const other of placed.around(birth, death)) {
      if (first[other] > death || birth > last[other]) continue;
      if (offsets[other] >= offset + size) break;
      offset = Math.max(offset, offsets[other] + sizes[other]);
    }
    offsets[index] = offset;
    top = Math.max(top, offset + size);
    placed.add(index, birth, death);
  }
  return { offsets: Array.from(offsets), bytes: top };
}

/** Steps of the shortest blocks, and how much longer the blocks of each level are than those of the level below. */
const SHORTEST = 64;
const RATIO = 16;

interface Level {
  readonly steps: number;
  readonly blocks: readonly number[][];
}

/**
 * Placed buffers by when they are alive. Each level cuts the timeline into blocks of one length, the last level into one;
 * a block lists all that are alive somewhere in it, by offset. Most buffers live for a few steps, and so meet only what
 * a short block lists.
 */
class Timeline {
  readonly #offsets: Float64Array;
  readonly #levels: Level[] = [];

  constructor(offsets: Float64Array, length: number) {
    this.#offsets = offsets;
    for (let steps = SHORTEST; ; steps *= RATIO) {
      const count = Math.max(1, Math.ceil(length / steps));
      this.#levels.push({ steps, blocks: Array.from({ length: count }, () => []) });
      if (count === 1) break;
    }
  }

  add(index: number, first: number, last: number): void {
    for (const { steps, blocks } of this.#levels) {
      for (let at = Math.floor(first / steps); at <= Math.floor(last / steps); at++)
        this.#insert(blocks[at], index);
    }
  }

  /** At least those that are alive between two steps, by offset. */
  around(first: number, last: number): readonly number[] {
    const isWithin = (steps: number) => Math.floor(first / steps) === Math.floor(last / steps);
    const { steps, blocks } = this.#levels.find((level) => isWithin(level.steps)) as Level;
    return blocks[Math.floor(first / steps)];
  }

  #insert(block: number[], index: number): void {
    const offset = this.#offsets[index];
    let [low, high] = [0, block.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#offsets[block[middle]] > offset) high = middle;
      else low = middle + 1;
    }
    block.splice(low, 0, index);
  }
}
