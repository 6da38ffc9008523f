/**
 * @file Activation checkpointing: backward computes the inside of a layer again instead of forward keeping it
 * (Chen et al. 2016, arXiv:1604.06174).
 *
 *     %h = repeat %x, %w times=32 carry=1              : bf16[1, 4096, 512] {
 *       ... the layer
 *       return %y
 *     }
 *
 *   becomes
 *
 *     %h = repeat %x, %w times=32 carry=1              : bf16[1, 4096, 512] {
 *       %y, %out, %out.lse = checkpoint %x, %w kept=2  : ... {
 *         ... the layer
 *         return %y, %out, %out.lse
 *       }
 *       return %y
 *     }
 *
 * Between forward and backward a layer then costs its input, and with the policy `attention` also attention's output
 * and log-sum-exp: the one part whose recomputation grows with the square of the sequence; with `values` those of its
 * values that are named, which keep.ts chooses by cost. What is computed again are
 * the same ops on the same numbers, so nothing changes but time: the policy `layer` runs forward twice, `attention`
 * forward without attention. It stands before unroll, where a layer is still one thing.
 */
import { Builder } from "../ir/build.ts";
import type { Node, Region, Value } from "../ir/graph.ts";
import { recordOf } from "../ir/ops/index.ts";
import type { Mesh } from "../ir/type.ts";
import { definePass } from "./pass.ts";

export const checkpoint = definePass({
  name: "checkpoint",
  summary: "makes backward compute layers again instead of keeping them",
  numerics: "exact",
  requires: [],
  establishes: [],
  /** off, layer, attention (attention's output is kept), or values: those that `keep` names, with blanks between. */
  options: { policy: "off", keep: "" },

  run(graph, { policy, keep }) {
    if (policy === "off") return graph;
    const names = new Set(policy === "values" ? keep.split(" ").filter((name) => name !== "") : []);
    const isKept = ({ op, results }: Node): boolean =>
      policy === "attention" ? op === "attention" : results.some(({ name }) => names.has(name));
    const layers = new Set(
      graph.params
        .filter(({ role, value }) => role === "param" && value.type.times !== null)
        .map((param) => param.value),
    );
    const nodes = graph.nodes.map((node) => {
      const isLayers = node.op === "repeat" && node.operands.some((operand) => layers.has(operand));
      if (!isLayers || !node.body) return node;
      const body = wrapped(node.body, isKept, graph.mesh, node.loc);
      return body === node.body ? node : { ...node, body };
    });
    return nodes.every((node, i) => node === graph.nodes[i]) ? graph : { ...graph, nodes };
  },
});

/** `body` with everything in it inside one checkpoint, that keeps what the nodes give for which `isKept`. */
function wrapped(body: Region, isKept: (node: Node) => boolean, mesh: Mesh, loc: string): Region {
  if (body.nodes.some((node) => node.op === "checkpoint")) return body;
  const returned = new Set(body.returns);
  const kept: Value[] = body.nodes
    .filter((node) => isKept(node) && !node.results.some((result) => returned.has(result)))
    .flatMap((node) => [...node.results]);
  const builder = new Builder(
    mesh,
    body.params.map(({ name }) => name),
  );
  const returns = [...body.returns, ...kept];
  const node: Node = builder.add(
    recordOf("checkpoint"),
    body.params,
    { kept: kept.length },
    {
      name: returns.map(({ name }) => name),
      loc,
      body: { ...body, returns },
    },
  );
  return builder.region(body.params, node.results.slice(0, body.returns.length));
}
