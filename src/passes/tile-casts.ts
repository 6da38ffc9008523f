/** @file Casts that meet at the border of a tile: a value widened in front of it, and narrowed again by all that read it inside. */
import { consumers, type Node, producers, type Region, type Value } from "../ir/graph.ts";
import { sameType } from "../ir/type.ts";

/** `nodes` with the narrow value handed to each such tile; the casts inside then have nothing to do. */
export function narrowTiles(nodes: readonly Node[]): readonly Node[] {
  const makers = producers(nodes);
  const narrowed = nodes.map((node) => {
    const body = node.body && node.op !== "fused" ? narrowedBody(node.body) : node.body;
    const inner = body === node.body ? node : { ...node, body };
    return node.op === "tile" ? narrowTile(inner, makers) : inner;
  });
  return narrowed.every((node, i) => node === nodes[i]) ? nodes : narrowed;
}

function narrowedBody(body: Region): Region {
  const nodes = narrowTiles(body.nodes);
  return nodes === body.nodes ? body : { ...body, nodes };
}

function narrowTile(tile: Node, makers: ReadonlyMap<Value, Node>): Node {
  const { body } = tile;
  if (!body) return tile;
  const readers = consumers(body.nodes);
  const operands = tile.operands.map((operand, i) => {
    const maker = makers.get(operand);
    const param = body.params[i];
    const inside = readers.get(param) ?? [];
    // To bf16 and back to f32 nothing is lost; the other way round it would be.
    const isWidened =
      maker?.op === "cast" && maker.operands[0].type.dtype === "bf16" && operand.type.dtype === "f32";
    const isNarrowed =
      inside.length > 0 &&
      !body.returns.includes(param) &&
      inside.every(({ op, attrs }) => op === "cast" && attrs.dtype === "bf16");
    return isWidened && isNarrowed ? maker.operands[0] : operand;
  });
  if (operands.every((operand, i) => operand === tile.operands[i])) return tile;
  const now = new Map<Value, Value>();
  const params = body.params.map((param, i) => {
    if (operands[i] === tile.operands[i]) return param;
    const narrow = { ...param, type: { ...param.type, dtype: operands[i].type.dtype } };
    if (!sameType(narrow.type, param.type)) now.set(param, narrow);
    return narrow;
  });
  const nodes = body.nodes.map((node) =>
    node.operands.some((operand) => now.has(operand))
      ? { ...node, operands: node.operands.map((operand) => now.get(operand) ?? operand) }
      : node,
  );
  return { ...tile, operands, body: { ...body, params, nodes } };
}
