/** @file Schedule and memory plan: where values lie, how long, and that the bytes hold the graph's own numbers. */
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { Graph } from "../../src/ir/graph.ts";
import { type Plan, peak, printPlan, printStep, type Slot, type Step } from "../../src/ir/plan.ts";
import { findRaces } from "../../src/ir/race.ts";
import { trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { decoder, PLAIN, TRAINING } from "../support/decoders.ts";
import { expectGolden } from "../support/golden.ts";
import { expectFaithful, LOOPED, planned } from "../support/planned.ts";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** The slot that a step writes under a name. */
function written(plan: Plan, name: string): Slot {
  const slots = plan.steps.flatMap((step) => step.outputs);
  return slots.findLast((slot) => slot.name === name) as Slot;
}

const bufferOf = (plan: Plan, name: string): number => written(plan, name).buffer;

describe("a result lies", () => {
  test("over an operand that nobody reads any more", () => {
    const plan = expectFaithful(`graph g {
      input %x : f32[8]
      %a = silu %x : f32[8]
      %b = exp %a : f32[8]
      %c = neg %b : f32[8]
      %d = sum %c dims=[0] : f32[]
      return out = %d
    }`);
    expect(bufferOf(plan, "b")).toBe(bufferOf(plan, "a"));
    expect(bufferOf(plan, "c")).toBe(bufferOf(plan, "a"));
  });

  test("elsewhere where the operand is still read", () => {
    const plan = expectFaithful(`graph g {
      input %x : f32[8]
      %a = silu %x : f32[8]
      %b = exp %a : f32[8]
      %c = mul %b, %a : f32[8]
      %d = sum %c dims=[0] : f32[]
      return out = %d
    }`);
    expect(bufferOf(plan, "b")).not.toBe(bufferOf(plan, "a"));
  });

  test("elsewhere where the operand is an input, or of another size", () => {
    const plan = expectFaithful(`graph g {
      input %x : f32[8]
      %a = silu %x : f32[8]
      %b = cast %a dtype=bf16 : bf16[8]
      %c = broadcast %b dims=[0] sizes=[2, 8] : bf16[2, 8]
      return out = %c
    }`);
    const input = plan.tensors.find(({ name }) => name === "x");
    expect(bufferOf(plan, "a")).not.toBe(input?.buffer);
    expect(bufferOf(plan, "b")).not.toBe(bufferOf(plan, "a"));
  });

  test("in its operand's bytes where it is only another shape of them", () => {
    const plan = expectFaithful(`graph g {
      input %x : f32[2, 8]
      %a = silu %x : f32[2, 8]
      %b = split_heads %a heads=2 : f32[2, 2, 4]
      %c = neg %b : f32[2, 2, 4]
      %d = mul %a, %a : f32[2, 8]
      %e = merge_heads %c : f32[2, 8]
      %f = add %d, %e : f32[2, 8]
      return out = %f
    }`);
    expect(plan.steps.map(({ node }) => node.op)).not.toContain("split_heads");
    expect(bufferOf(plan, "c")).not.toBe(bufferOf(plan, "a"));
  });

  test("over the parameter that it updates, once all readers of the parameter have run", () => {
    const plan = expectFaithful(`graph g {
      input %x : f32[8]
      param %w : f32[8]
      %w.1 = add %w, %x : f32[8]
      %y = mul %w, %x : f32[8]
      update %w = %w.1
      return out = %y
    }`);
    expect(plan.steps.map(({ node }) => node.op)).toEqual(["mul", "add"]);
    expect(bufferOf(plan, "w.1")).toBe(plan.tensors.find(({ name }) => name === "w")?.buffer);
  });

  test("beside the parameter that it updates, and is copied, where its kernel can't write over it", () => {
    const plan = expectFaithful(`graph g {
      param %w : f32[4, 4]
      %w.1 = matmul %w, %w : f32[4, 4]
      update %w = %w.1
    }`);
    expect(plan.steps.map(({ node }) => node.op)).toEqual(["matmul", "cast"]);
  });

  test("beside the parameter where its old and new value are wanted at once", () => {
    expectFaithful(`graph g {
      input %x : f32[4]
      param %w : f32[4]
      %w.1 = add %w, %x : f32[4]
      %d = sub %w.1, %w : f32[4]
      update %w = %w.1
      return out = %d
    }`);
    expectFaithful(`graph g {
      param %w : f32[4]
      state %m : f32[4]
      %m.1 = add %m, %w : f32[4]
      %w.1 = sub %w, %m : f32[4]
      update %w = %w.1
      update %m = %m.1
    }`);
  });

  test("in one place however many names it goes out by", () => {
    const plan = expectFaithful(`graph g {
      input %x : f32[8]
      %a = silu %x : f32[8]
      return one = %a
      return two = %a
      return given = %x
    }`);
    expect(plan.steps).toHaveLength(1);
  });
});

describe("an output stays until the step is over", () => {
  const spoiler = `
      %s = silu %x : f32[2, 8]
      %t = exp %s : f32[2, 8]
      %u = sum %t dims=[0, 1] : f32[]
      return last = %u`;

  test("also as another shape of a value", () => {
    expectFaithful(`graph g {
      input %x : f32[2, 8]
      %a = neg %x : f32[2, 8]
      %b = split_heads %a heads=4 : f32[2, 4, 2]
      return out = %b${spoiler}
    }`);
  });

  test("also as the result of a loop", () => {
    expectFaithful(`graph g {
      input %x : f32[2, 8]
      input %y : 3 x f32[2, 8]
      %zero = constant dims=[2, 8] : f32[2, 8]
      %r = repeat %zero, %y times=3 carry=1 : f32[2, 8] {
        param %a : f32[2, 8]
        param %b : f32[2, 8]
        %c = add %a, %b : f32[2, 8]
        return %c
      }
      return out = %r${spoiler}
    }`);
  });
});

describe("a loop", () => {
  const loop = (returns: string, body: string, operands = "%a, %b") => `graph g {
      input %x : f32[4]
      %a = silu %x : f32[4]
      %b = exp %x : f32[4]
      %f, %g = repeat ${operands} times=3 carry=2 : f32[4], f32[4] {
        param %p : f32[4]
        param %q : f32[4]
        ${body}
        return ${returns}
      }
      %h = mul %f, %g : f32[4]
      return out = %h
    }`;

  test("hands values on from one place to the other", () => {
    expectFaithful(loop("%q, %r", "%r = add %p, %q : f32[4]"));
    expectFaithful(loop("%q, %p", ""));
    expectFaithful(loop("%r, %p", "%r = add %p, %q : f32[4]"));
  });

  test("does not overwrite what is carried before its last reader of the turn", () => {
    expectFaithful(loop("%r, %s", "%r = add %p, %q : f32[4]\n%s = mul %p, %r : f32[4]"));
  });

  test("keeps two carried values apart that begin as one", () => {
    expectFaithful(loop("%r, %s", "%r = neg %p : f32[4]\n%s = exp %q : f32[4]", "%a, %a"));
  });

  test("leaves alone what it carries and also reads as it was", () => {
    expectFaithful(`graph g {
      input %x : f32[4]
      %a = silu %x : f32[4]
      %f = repeat %a, %a times=3 carry=1 : f32[4] {
        param %p : f32[4]
        param %same : f32[4]
        %r = mul %p, %same : f32[4]
        return %r
      }
      return out = %f
    }`);
  });

  test("keeps alive to its end what it reads from outside, and from its beginning what it hands out", () => {
    const plan = expectFaithful(LOOPED);
    const [{ first, last }] = plan.loops;
    const v = plan.buffers[bufferOf(plan, "v")];
    const y = plan.buffers[plan.steps.find(({ node }) => node.op === "sum")?.inputs[0].buffer as number];
    expect(v.last).toBe(last);
    expect([y.first, y.last]).toEqual([first, last + 1]);
  });

  test("inside a loop: parts of parts", () => {
    expectFaithful(`graph g {
      input %x : 2 x f32[6, 4]
      %zero = constant dims=[4] : f32[4]
      %y = repeat %zero, %x times=2 carry=1 : f32[4] {
        param %sum : f32[4]
        param %part : f32[6, 4]
        %s = tile %part tiles=3 split=[0] join=[-1] : f32[4] {
          param %rows : f32[2, 4]
          %e = exp %rows : f32[2, 4]
          %t = sum %e dims=[0] : f32[4]
          return %t
        }
        %next = add %sum, %s : f32[4]
        return %next
      }
      return out = %y
    }`);
  });
});

describe("lanes", () => {
  const offloaded = `graph g {
    input %x : f32[64]
    %a = silu %x : f32[64]
    %a.host = offload %a : f32<host>[64]
    %b = exp %x : f32[64]
    %c = tanh %b : f32[64]
    %c.host = offload %c : f32<host>[64]
    %d = neg %x : f32[64]
    %e = sum %d dims=[0] : f32[]
    %c.back = reload %c.host : f32[64]
    %a.back = reload %a.host : f32[64]
    %f = mul %a.back, %c.back : f32[64]
    return sum = %e
    return out = %f
  }`;

  test("copies between memories run beside compute and are waited for", () => {
    const plan = expectFaithful(offloaded);
    const lanes = Object.fromEntries(plan.steps.map((step) => [step.node.results[0].name, step.lane]));
    expect(lanes).toMatchObject({ "a.host": "to_host", "c.back": "to_device", f: "compute" });
    const step = (name: string) => plan.steps.find((own) => own.node.results[0].name === name);
    expect(step("a.host")?.waits).toEqual([step("a")?.index]);
    expect(step("c.back")?.waits).not.toEqual([]);
  });

  const waitsOf = (plan: Plan) =>
    plan.steps
      .filter(({ waits }) => waits.length > 0)
      .map(
        (step) =>
          `${step.node.results[0].name}: ${step.waits.map((at) => plan.steps[at].node.results[0].name)}`,
      );

  test("wait at the border of a loop that the other step is not in", () => {
    const plan = expectFaithful(`graph g {
      input %h : f32<host>[8]
      %x = reload %h : f32[8]
      %y = tile %x tiles=4 split=[0] join=[0] : f32[8] {
        param %a : f32[2]
        %b = exp %a : f32[2]
        return %b
      }
      %z = offload %y : f32<host>[8]
      return out = %z
    }`);
    expect(waitsOf(plan)).toEqual(["b: x", "z: b"]);
  });

  test("wait for the turn before where its bytes are written again", () => {
    const plan = expectFaithful(`graph g {
      input %x : 3 x f32[8]
      input %old : f32<host>[8]
      %zero = constant dims=[8] : f32[8]
      %y, %last = repeat %zero, %old, %x times=3 carry=2 : f32[8], f32<host>[8] {
        param %sum : f32[8]
        param %before : f32<host>[8]
        param %part : f32[8]
        %e = exp %part : f32[8]
        %e.host = offload %e : f32<host>[8]
        %next = add %sum, %e : f32[8]
        return %next, %e.host
      }
      return out = %y
      return last = %last
    }`);
    const step = (name: string) => plan.steps.find(({ node }) => node.results[0].name === name) as Step;
    expect(step("e").waits).toContain(step("e.host").index);
    expect(step("e").index).toBeLessThan(step("e.host").index);
    expect(printStep(plan, step("e"))).toContain(`waits ${step("e.host").index} of the turn before`);
  });

  test("run collectives beside compute inside loops too", () => {
    const graph = decoder(
      { ...PLAIN, batch: 2, sequence: 4, group: 2, blocks: [{ kind: "attention", a: 0, b: 1 }] },
      new Map([["sp", 2]]),
    );
    const options = { ...TRAINING, gradientAccumulationSteps: 2, lossTiles: 2 };
    const stages = runPipeline(graph, trainingPipeline(options));
    const plan = planned(stages[stages.length - 1].graph);
    expect(findRaces(plan)).toEqual([]);
    const exchanges = plan.steps.filter(({ node }) => node.op === "all_to_all");
    expect(exchanges.length).toBeGreaterThan(0);
    for (const { lane, loops } of exchanges) expect([lane, loops.length]).toEqual(["comm", 1]);
  });
});

const small = `graph small {
  input %x : f32[1, 4, 8]
  param %w init="normal 0.02" : f32[16, 8]
  %h = silu %x : f32[1, 4, 8] ; m.ts:1
  %y = tile %h, %w tiles=2 split=[1, -1] join=[1] : f32[1, 4, 16] { ; m.ts:2
    param %a : f32[1, 2, 8]
    param %b : f32[16, 8]
    %c = matmul %a, %b transpose_b=true : f32[1, 2, 16] ; m.ts:3
    %d = gelu %c : f32[1, 2, 16] ; m.ts:3
    return %d
  }
  %z = offload %h : f32<host>[1, 4, 8] ; m.ts:4
  %s = sum_squares %y : f32[] ; m.ts:5
  return out = %z
  return norm = %s
}`;

test("the plan's text", () => {
  expectGolden(here("./small.plan"), printPlan(planned(small)));
});

describe("the arena of shipped models is within 5% of the lower bound", () => {
  const golden = fileURLToPath(new URL("../golden/", import.meta.url));
  const bench = { hidden_size: 512, num_hidden_layers: 8, intermediate_size: 1536, vocab_size: 32000 };

  async function forward(family: string, changes: object, sequence: number): Promise<Graph> {
    const { lowerDefinition, readModelDirectory } = await import("../../src/frontend/index.ts");
    const { file, className, config } = readModelDirectory(`${golden}${family}/model`);
    return lowerDefinition({
      file,
      ...(className !== null && { className }),
      config: { ...config, ...changes },
      name: family,
      batch: 1,
      sequence,
    });
  }

  test.each([
    ["llama", {}, 70],
    ["mistral", {}, 70],
    ["qwen2", {}, 70],
    ["qwen3", {}, 70],
    ["llama", bench, 1024],
  ])("%s %j", async (family, changes, sequence) => {
    const graph = await forward(family, changes, sequence);
    for (const precision of ["fp32", "bf16"] as const) {
      for (const more of [
        {},
        { checkpointing: "attention" as const },
        { gradientAccumulationSteps: 2, maxGradNorm: 0 },
      ]) {
        const stages = runPipeline(
          graph,
          trainingPipeline({ ...TRAINING, precision, lossTiles: 0, ...more }),
        );
        const plan = planned(stages[stages.length - 1].graph);
        const ratio = plan.deviceBytes / plan.deviceLowerBound;
        expect(ratio, `${precision} ${JSON.stringify(more)}`).toBeLessThanOrEqual(1.05);
        expect(plan.deviceLowerBound).toBe(peak(plan).bytes);
      }
    }
  });

  test("and a decoder of every kind of block", () => {
    const kinds = ["attention", "mlp", "norm", "tile", "layers", "attention layers"] as const;
    const graph = decoder({ ...PLAIN, batch: 2, blocks: kinds.map((kind) => ({ kind, a: 0, b: 1 })) });
    const stages = runPipeline(graph, trainingPipeline(TRAINING));
    const plan = expectFaithful(stages[stages.length - 1].graph);
    expect(plan.deviceBytes / plan.deviceLowerBound).toBeLessThanOrEqual(1.05);
  });
});
