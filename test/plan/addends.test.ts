/** @file What a tile only sums is added straight onto the total, and lies nowhere in between. */
import { expect, test } from "vitest";
import { expectFaithful } from "../support/planned.ts";

const graph = (body: string, join = "-1") => `graph g {
  input %x : f32[1, 8, 4]
  input %y : f32[1, 8, 4]
  input %w : f32[8, 1]
  %z = tile %x, %y, %w tiles=4 split=[-1, -1, 0] join=[${join}] : f32[1, 8, 4] {
    param %a : f32[1, 8, 4]
    param %b : f32[1, 8, 4]
    param %c : f32[2, 1]
    %s = sum %c dims=[0] : f32[1]
${body}
  }
  return out = %z
}`;

test("an elementwise op becomes one kernel with its sum", () => {
  const plan = expectFaithful(graph("    %d = mul %a, %b : f32[1, 8, 4]\n    return %d"));
  const inside = plan.steps.filter(({ loops }) => loops.length > 0).map(({ node }) => node.op);
  expect(inside).toContain("fused");
  expect(inside).not.toContain("add");
  expect(inside).not.toContain("mul");
  expect(plan.buffers.filter(({ name }) => name === "d")).toEqual([]);
});

test("and so do fused ones, whatever their names", () => {
  const body = `    %total = exp %b : f32[1, 8, 4]
    %d = fused %a, %total : f32[1, 8, 4] {
      param %total : f32[1, 8, 4]
      param %q : f32[1, 8, 4]
      %total.1 = mul %total, %q : f32[1, 8, 4]
      %r = add %total.1, %q : f32[1, 8, 4]
      return %r
    }
    return %d`;
  const plan = expectFaithful(graph(body));
  const inside = plan.steps.filter(({ loops }) => loops.length > 0).map(({ node }) => node.op);
  expect(inside.filter((op) => op === "fused")).toHaveLength(1);
  expect(inside).not.toContain("add");
});

test("not what is broadcast, or read elsewhere too", () => {
  const broadcast = expectFaithful(graph("    %d = mul %a, %s : f32[1, 8, 4]\n    return %d"));
  expect(broadcast.steps.filter(({ node }) => node.op === "add")).toHaveLength(1);
  const twice = expectFaithful(
    graph("    %d = mul %a, %b : f32[1, 8, 4]\n    %e = matmul %d, %f : f32[1, 8, 4]\n    return %e").replace(
      "    %d = mul",
      "    %f = constant value=1 dims=[4, 4] : f32[4, 4]\n    %d = mul",
    ),
  );
  expect(twice.steps.some(({ node }) => node.op === "mul")).toBe(true);
});
