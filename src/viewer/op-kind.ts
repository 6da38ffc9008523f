/** @file Which color a node has: what moves between ranks, what moves between memories, products, attention, the rest. */
export function kindOfOp(op: string): "comm" | "offload" | "attention" | "matmul" | "region" | "other" {
  if (/^(all_to_all|all_gather|all_reduce|reduce_scatter)$/.test(op)) return "comm";
  if (/^(offload|reload|spill|fetch)$/.test(op)) return "offload";
  if (op.startsWith("attention")) return "attention";
  if (op.startsWith("matmul")) return "matmul";
  if (/^(repeat|tile|checkpoint)$/.test(op)) return "region";
  return "other";
}
