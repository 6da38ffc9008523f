/** @file What `forward` did: the nodes it made, the names they should have, and which loops made them. */
import { Builder } from "../ir/build.ts";
import type { Attrs, Value } from "../ir/graph.ts";
import type { OpDefinition } from "../ir/op.ts";
import type { Mesh } from "../ir/type.ts";

/** How good a wished name is: the user's variable is better than a field, a field than the name of an op. */
export const NAME_STRENGTH = { op: 0, library: 1, field: 2, variable: 3 } as const;

interface Wish {
  readonly name: string;
  readonly strength: number;
}

/** A loop of the definition: the node at which each iteration began, and where the last one ended. */
export interface LoopTrace {
  readonly loc: string;
  readonly starts: number[];
  end: number;
}

/** All layers are written out while `forward` is read; roll.ts makes `repeat` of equal ones afterwards. */
export class Trace {
  readonly builder: Builder;
  readonly loops: LoopTrace[] = [];
  readonly #wishes = new Map<Value, Wish>();
  #count = 0;

  constructor(mesh: Mesh) {
    this.builder = new Builder(mesh);
  }

  /** Appends a node. Throws a UserError without a frame if the operands don't fit. */
  add(
    record: OpDefinition,
    operands: readonly Value[],
    attrs: Partial<Attrs>,
    loc: string,
  ): readonly Value[] {
    const node = this.builder.add(record, operands, attrs, { name: `${this.#count++}`, loc });
    this.wish(node.results[0], record.name, NAME_STRENGTH.op);
    return node.results;
  }

  /** Names a value unless it has a name as good already. */
  wish(value: Value, name: string, strength: number): void {
    const known = this.#wishes.get(value);
    if (!known || known.strength < strength) this.#wishes.set(value, { name, strength });
  }

  wishOf(value: Value): string | undefined {
    return this.#wishes.get(value)?.name;
  }

  /** Opens a loop whose iterations are told by `iterate`; `close` when it is over. */
  loop(loc: string): { iterate(): void; close(): void } {
    const { nodes } = this.builder;
    const loop: LoopTrace = { loc, starts: [], end: 0 };
    return {
      iterate: () => loop.starts.push(nodes.length),
      close: () => {
        loop.end = nodes.length;
        this.loops.push(loop);
      },
    };
  }
}
