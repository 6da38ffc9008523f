/** @file Small whole numbers in place of large ones that depend on each other: equal, in a ratio, products, parts. */

/** A number to be chosen: the index of its entry. */
export type Unknown = number;

interface Product {
  readonly whole: Unknown;
  readonly parts: readonly Unknown[];
}

interface Part {
  readonly whole: Unknown;
  readonly part: Unknown;
  readonly tiles: number;
  /** Whether the last part is smaller than the others. */
  readonly hasRest: boolean;
}

/** What shrinks by one factor: the sizes are multiples of `unit`, and become the same multiples of another one. */
interface Group {
  readonly members: Unknown[];
  readonly unit: number;
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
const lcm = (a: number, b: number): number => (a / gcd(a, b)) * b;

/** What did not come out even: the group whose unit should be a multiple of `by`, or else sizes to leave as they are. */
interface Conflict {
  readonly message: string;
  readonly group: Group | null;
  readonly by: number;
  readonly fixed?: readonly Unknown[];
}

/** Sets of unknowns that are joined two by two. */
class Sets {
  readonly #parents: number[] = [];

  root(at: number): number {
    let root = at;
    while ((this.#parents[root] ?? root) !== root) root = this.#parents[root];
    for (let own = at; own !== root; ) [this.#parents[own], own] = [root, this.#parents[own]];
    return root;
  }

  join(a: number, b: number): void {
    this.#parents[this.root(b)] = this.root(a);
  }
}

/** Collects what is known about sizes, then chooses small ones. */
export class Sizes {
  readonly #real: number[] = [];
  /** The number each chosen one must be a multiple of: the ranks that share it. */
  readonly #multiple: number[] = [];
  readonly #least: number[] = [];
  readonly #isCount: boolean[] = [];
  readonly #fixed: boolean[] = [];
  readonly #anchors: number[][] = [];
  readonly #equal = new Sets();
  readonly #scaled = new Sets();
  readonly #products: Product[] = [];
  readonly #parts: Part[] = [];
  readonly #chosen: number[] = [];

  /** A size that `degree` ranks share evenly. */
  unknown(real: number, degree: number): Unknown {
    const at = this.#real.push(real) - 1;
    this.#multiple[at] = degree;
    this.#least[at] = Math.min(real, 2);
    return at;
  }

  /** How many members a family has, or how often a loop runs. */
  count(real: number): Unknown {
    const at = this.unknown(real, 1);
    this.#isCount[at] = true;
    return at;
  }

  atLeast(a: Unknown, least: number): void {
    this.#least[a] = Math.max(this.#least[a], Math.min(least, this.#real[a]));
  }

  /** It stays as it is. */
  fix(a: Unknown): void {
    this.#fixed[a] = true;
  }

  /** The two are the same size if they are so now; else they keep their ratio. */
  tie(a: Unknown, b: Unknown): void {
    if (this.#real[a] === this.#real[b]) this.#equal.join(a, b);
    this.#scaled.join(a, b);
  }

  ratio(a: Unknown, b: Unknown): void {
    this.#scaled.join(a, b);
  }

  /** A position along `a`, which must stay whole. */
  anchor(a: Unknown, position: number): void {
    if (position > 0) this.#anchors[a] = [...(this.#anchors[a] ?? []), position];
  }

  product(whole: Unknown, parts: readonly Unknown[]): void {
    this.#products.push({ whole, parts });
  }

  part(whole: Unknown, part: Unknown, { tiles, hasRest }: Pick<Part, "tiles" | "hasRest">): void {
    if (this.#real[whole] === this.#real[part]) this.tie(whole, part);
    else this.#parts.push({ whole, part, tiles, hasRest });
  }

  valueOf(a: Unknown): number {
    return this.#chosen[a];
  }

  /** Chooses. Null, or what could not be brought together. */
  solve(): string | null {
    // One size made of factors of the same sizes at two places is made alike.
    const made = new Map<string, readonly Unknown[]>();
    for (const { whole, parts } of this.#products) {
      const key = [
        this.#scaled.root(whole),
        this.#real[whole],
        ...parts.map((part) => this.#real[part]),
      ].join();
      const before = made.get(key);
      if (before) for (const [i, part] of parts.entries()) this.tie(before[i], part);
      else made.set(key, parts);
    }
    return this.#search();
  }

  #search(): string | null {
    const groups = new Map<number, Group>();
    const groupOf = (a: Unknown) => groups.get(this.#scaled.root(a)) as Group;
    const members = new Map<number, Unknown[]>();
    for (let a = 0; a < this.#real.length; a++) {
      const root = this.#scaled.root(a);
      const own = members.get(root);
      if (own) own.push(a);
      else members.set(root, [a]);
    }
    for (const [root, own] of members) {
      const unit = own.flatMap((a) => [this.#real[a], ...(this.#anchors[a] ?? [])]).reduce(gcd);
      groups.set(root, { members: own, unit });
    }
    const needs = this.#needs();
    const derived = new Set<Group>([
      ...this.#products
        .filter(({ whole, parts }) => parts.every((own) => groupOf(own) !== groupOf(whole)))
        .map(({ whole }) => groupOf(whole)),
      ...this.#parts
        .filter(({ whole, part }) => groupOf(whole) !== groupOf(part))
        .map(({ part }) => groupOf(part)),
    ]);
    const extra = new Map<Group, number>();
    let problem = "";
    for (let round = 0; round < 64; round++) {
      const units = this.#base(
        [...groups.values()].filter((group) => !derived.has(group)),
        needs,
        extra,
      );
      const wrong = this.#derive(units, groupOf, needs);
      if (wrong === null) return null;
      problem = wrong.message;
      const { group, by, fixed } = wrong;
      if (group === null || derived.has(group)) {
        // What contradicts itself stays as large as it is.
        const left = (fixed ?? []).filter((a) => !this.#fixed[a]);
        if (left.length === 0) break;
        for (const a of left) this.fix(a);
        continue;
      }
      const before = extra.get(group) ?? 1;
      if (before % by === 0) break;
      extra.set(group, lcm(before, by));
    }
    return problem;
  }

  /** What each size must be a multiple of, with what its parts need. */
  #needs(): number[] {
    const needs = [...this.#multiple];
    for (let changed = true; changed; ) {
      changed = false;
      const raise = (a: Unknown, by: number) => {
        const raised = lcm(needs[a], by);
        if (raised !== needs[a]) [needs[a], changed] = [raised, true];
      };
      for (const { whole, part, tiles, hasRest } of this.#parts)
        raise(whole, hasRest ? needs[part] : tiles * needs[part]);
      const most = new Map<number, number>();
      needs.forEach((own, a) => {
        const root = this.#equal.root(a);
        most.set(root, lcm(most.get(root) ?? 1, own));
      });
      needs.forEach((_, a) => {
        raise(a, most.get(this.#equal.root(a)) as number);
      });
    }
    return needs;
  }

  /** Units of the groups that nothing decides, the smallest that fit, different ones where possible. */
  #base(
    groups: readonly Group[],
    needs: readonly number[],
    extra: ReadonlyMap<Group, number>,
  ): Map<Group, number> {
    const taken = new Set<number>();
    const units = new Map<Group, number>();
    for (const group of groups) {
      const { members, unit } = group;
      const isCount = members.every((a) => this.#isCount[a]);
      const fits = (own: number) =>
        own % (extra.get(group) ?? 1) === 0 &&
        members.every((a) => {
          const value = (this.#real[a] / unit) * own;
          return value % needs[a] === 0 && value >= this.#least[a];
        });
      const largest = Math.max(...members.map((a) => this.#real[a] / unit));
      const isFixed = members.some((a) => this.#fixed[a]);
      const restful = new Set(this.#parts.filter(({ hasRest }) => hasRest).map(({ whole }) => whole));
      const enough = (own: number) =>
        members.every((a) => !restful.has(a) || (this.#real[a] / unit) * own >= 3 * needs[a]);
      let choice = unit;
      let others = 0;
      for (let own = 1; own < unit && !isFixed; own++) {
        if (!fits(own) || !enough(own)) continue;
        if (choice === unit) choice = own;
        if (isCount || !taken.has(own * largest)) {
          choice = own;
          break;
        }
        if (++others > 8) break;
      }
      if (!isCount) taken.add(choice * largest);
      units.set(group, choice);
    }
    return units;
  }

  /** Fills in all sizes from the units that were chosen. Null, or what is wrong and which unit should be a multiple of what. */
  #derive(
    units: Map<Group, number>,
    groupOf: (a: Unknown) => Group,
    needs: readonly number[],
  ): Conflict | null {
    const value = (a: Unknown): number | undefined => {
      const group = groupOf(a);
      const unit = units.get(group);
      return unit === undefined ? undefined : (this.#real[a] / group.unit) * unit;
    };
    const put = (a: Unknown, size: number): boolean => {
      const group = groupOf(a);
      const known = value(a);
      if (known !== undefined) return known === size;
      const unit = size / (this.#real[a] / group.unit);
      if (!Number.isInteger(unit)) return false;
      units.set(group, unit);
      return true;
    };
    for (let left = this.#products.length + this.#parts.length, before = -1; left !== before; ) {
      before = left;
      left = 0;
      for (const { whole, parts } of this.#products) {
        const sizes = parts.map(value);
        if (sizes.some((size) => size === undefined)) {
          left += 1;
          continue;
        }
        const size = (sizes as number[]).reduce((a, b) => a * b, 1);
        const group = groupOf(parts[parts.length - 1]);
        if (size % needs[whole] !== 0)
          return {
            message: `a size of ${this.#real[whole]} can't be made small`,
            group,
            by: needs[whole] / gcd(needs[whole], size / (sizes.at(-1) as number)),
          };
        if (!put(whole, size))
          return {
            message: `a size of ${this.#real[whole]} is made in two ways`,
            group: null,
            by: 1,
            fixed: [whole, ...parts],
          };
      }
      for (const { whole, part, tiles, hasRest } of this.#parts) {
        const size = value(whole);
        if (size === undefined) {
          left += 1;
          continue;
        }
        const share = size / needs[part];
        const own = hasRest ? needs[part] * Math.ceil((share + 1) / 2) : size / tiles;
        if (!Number.isInteger(own) || !put(part, own))
          return {
            message: `parts of ${this.#real[part]} of ${this.#real[whole]} can't be made small`,
            group: null,
            by: 1,
            fixed: [whole, part],
          };
      }
    }
    for (let a = 0; a < this.#real.length; a++) {
      const size = value(a);
      if (size === undefined)
        return { message: `a size of ${this.#real[a]} depends on itself`, group: null, by: 1 };
      if (size % needs[a] !== 0)
        return {
          message: `a size of ${this.#real[a]} must stay a multiple of ${needs[a]}`,
          group: groupOf(a),
          by: needs[a],
        };
      this.#chosen[a] = size;
    }
    return null;
  }
}
