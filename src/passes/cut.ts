/** @file How a dimension is cut into parts of which each rank has as many as every other. */
import type { Cut } from "../ir/ops/region.ts";
import { type Dim, degreeOf, type Mesh } from "../ir/type.ts";

/**
 * The fewest parts that are no longer than those of `wanted` equal ones. The last is smaller where the ranks' shares don't
 * divide.
 */
export function cutInto(dim: Dim, wanted: number, mesh: Mesh): Cut {
  const degree = degreeOf(dim, mesh);
  const size = dim.size / degree;
  const part = Math.ceil(size / Math.max(1, Math.min(wanted, size)));
  return { tiles: Math.ceil(size / part), rest: (size % part) * degree };
}
