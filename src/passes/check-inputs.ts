/** @file What the graph before a pass is given, when the graph after it has other parameters. */
import type { NDArray } from "../ir/array.ts";
import type { Graph } from "../ir/graph.ts";
import type { Arrays } from "../ir/interpret.ts";

/** Families that are single weights after the pass: `layers.*.w` is put together from `layers.0.w`, `layers.1.w` ... */
export function unrolledArrays(before: Graph, arrays: Arrays): Arrays {
  const all = new Map(arrays);
  for (const { value } of before.params) {
    const { name, type } = value;
    if (type.times === null) continue;
    const members = Array.from({ length: type.times }, (_, i) =>
      arrays.get(name.includes("*") ? name.replace("*", String(i)) : `${name}.${i}`),
    );
    if (!members.every((member) => member !== undefined)) continue;
    const data = Float64Array.from(members.flatMap((member) => [...(member as NDArray).data]));
    all.set(name, { sizes: [type.times, ...(members[0] as NDArray).sizes], data });
  }
  return all;
}

/** One set of arrays for each micro batch, where inputs are families after the pass and weren't before; else just one. */
export function microBatches(before: Graph, after: Graph, arrays: Arrays): Arrays[] {
  const single = new Set(
    before.params
      .filter(({ role, value }) => role === "input" && value.type.times === null)
      .map(({ value }) => value.name),
  );
  const families = after.params.filter(({ value }) => value.type.times !== null && single.has(value.name));
  const times = families[0]?.value.type.times ?? null;
  if (times === null) return [arrays];
  return Array.from({ length: times }, (_, i) => {
    const own = new Map(arrays);
    for (const { value } of families) {
      const { sizes, data } = arrays.get(value.name) as NDArray;
      const size = data.length / times;
      own.set(value.name, { sizes: sizes.slice(1), data: data.slice(i * size, (i + 1) * size) });
    }
    return own;
  });
}
