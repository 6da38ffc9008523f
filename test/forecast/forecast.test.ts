/** @file What `ithaca plan` counts: the compiler's own plan to the byte, formulas by hand, and sums that add up. */
import { describe, expect, test } from "vitest";
import { compileConfig } from "../../src/compile.ts";
import { forecast, probe } from "../../src/forecast.ts";
import { parameterCount } from "../../src/ir/flops.ts";
import { anatomyOf, layerOf, reportKinds } from "../../src/plan/anatomy.ts";
import { columnsOf } from "../../src/plan/chart.ts";
import { allowancesFor, cpuMachine, machineOf, machines } from "../../src/plan/machines.ts";
import type { MemoryReport } from "../../src/plan/report.ts";
import { secondsOf, timelineOf } from "../../src/plan/roofline.ts";
import { timelineSvg } from "../../src/plan/timeline-svg.ts";
import { configOf } from "./tiny.ts";

const h100 = machineOf("h100-80gb");
if (!h100) throw new Error("no h100");

const settings = [
  [],
  ["precision=bf16"],
  ["parallel.sequence=2", "memory.activation_checkpointing=layer"],
  ["parallel.data=2", "gradient_accumulation_steps=2"],
  ["memory.activation_checkpointing=layer", "memory.activation_offload=host"],
  ["memory.tiled_mlp=4", "memory.activation_checkpointing=attention", "precision=bf16"],
] as const;

describe.each(settings.map((own) => [own.join(" ") || "defaults", own] as const))("%s", (_, overrides) => {
  test("on the CPU the two peaks are the compiler's arenas, to the byte", async () => {
    const config = configOf(...overrides);
    const { device, host, excess } = await forecast(config, null);
    const { plan } = await compileConfig(config);
    expect(device.peakBytes).toBe(plan?.deviceBytes);
    expect(host.peakBytes).toBe(plan?.hostBytes);
    expect(excess).toBeNull();
  });

  test("kinds and gaps add up to the peak, and so do layers", async () => {
    const { device, host } = await forecast(configOf(...overrides), h100);
    for (const report of [device, host]) {
      const kinds = reportKinds.reduce((total, kind) => total + report.byKind[kind], 0);
      expect(kinds + report.gapBytes).toBe(report.peakBytes);
      expect(report.gapBytes).toBeGreaterThanOrEqual(0);
      const layers = report.byLayer.reduce((total, { bytes }) => total + bytes, 0);
      expect(layers + report.byKind.allowance + report.gapBytes).toBe(report.peakBytes);
      expect(report.alive.reduce((total, { bytes }) => total + bytes, 0)).toBe(layers);
      expect(Math.max(...report.timeline)).toBe(report.timeline[report.peakStep]);
    }
  });

  test("a probe of the search needs what the forecast needs", async () => {
    const decided = ["activation_checkpointing=layer", "activation_offload=off", "tiled_mlp=off"];
    const whole = ["tiled_projections=off", "head_groups=off"];
    const asked = configOf(...[...decided, ...whole].map((own) => `memory.${own}`), ...overrides);
    const { device, host } = await forecast(asked, h100);
    const need = await probe(asked, h100, asked.sequence_length);
    expect(need).toEqual({ sequence: 256, device: device.peakBytes, host: host.peakBytes });
  });
});

/** Bytes of one kind that are always there. */
const always = (report: MemoryReport, kind: string): number =>
  report.alive.filter((own) => own.kind === kind).reduce((total, { bytes }) => total + bytes, 0);

describe("formulas", () => {
  const base = ["precision=bf16", "memory.activation_checkpointing=layer", "parallel.sequence=4"];

  test("ZeRO-3 with all state on the host: 16 bytes a parameter there, shared by the ranks", async () => {
    const made = await forecast(
      configOf(
        ...[...base, "parallel.zero_stage=3"],
        ...["memory.optimizer_offload=host", "memory.parameter_offload=host"],
      ),
      h100,
    );
    const share = (parameterCount(made.planned.graph) * 4) / 4;
    const ofHost = made.parts.filter(({ memory }) => memory === "host");
    const sums: Record<string, number> = {};
    for (const { kind, bytes } of ofHost) sums[kind] = (sums[kind] ?? 0) + bytes;
    expect(sums).toEqual({ parameters: share, optimizer: 2 * share, gradients: share });
    expect(always(made.device, "optimizer")).toBe(0);
    const persistent = made.parts.filter((part) => part.persistent && part.memory === "device");
    expect(persistent.filter(({ kind }) => kind === "parameters" || kind === "gradients")).toEqual([]);
    const asked = made.assumptions.map(({ setting }) => setting);
    expect(asked).toContain("parallel.zero_stage");
    expect(asked).toContain("memory.parameter_offload");
  });

  test("ZeRO-3 alone: every rank has its share of weights, moments and gradients on the device", async () => {
    const made = await forecast(configOf(...base, "parallel.zero_stage=3"), h100);
    const share = (parameterCount(made.planned.graph) * 4) / 4;
    const bytesOf = (kind: string) =>
      made.parts
        .filter((part) => part.kind === kind && part.persistent)
        .reduce((total, { bytes }) => total + bytes, 0);
    expect([bytesOf("parameters"), bytesOf("optimizer")]).toEqual([share, 2 * share]);
    const gradients = made.parts.filter(({ kind }) => kind === "gradients");
    const total = gradients.reduce((sum, { bytes }) => sum + bytes, 0);
    // Whole while their layer runs backward, and the share.
    expect(total).toBe(4 * share + share);
  });

  test("ZeRO-1 shares f32 weights and moments, and keeps gradients and bf16 weights whole", async () => {
    const made = await forecast(configOf(...base, "parallel.zero_stage=1"), h100);
    const parameters = parameterCount(made.planned.graph);
    const persistent = made.parts.filter((part) => part.persistent && part.memory === "device");
    const bytesOf = (kind: string) =>
      persistent.filter((part) => part.kind === kind).reduce((total, { bytes }) => total + bytes, 0);
    expect(bytesOf("optimizer")).toBe((parameters * 8) / 4);
    expect(bytesOf("parameters")).toBe((parameters * 4) / 4 + parameters * 2);
    const gradients = made.parts.filter(({ kind }) => kind === "gradients");
    expect(gradients.reduce((total, { bytes }) => total + bytes, 0)).toBe(parameters * 4);
  });

  test("each stage needs no more of the device than the one before, and 3 with offload least", async () => {
    const asked = [
      ["parallel.zero_stage=0"],
      ["parallel.zero_stage=1"],
      ["parallel.zero_stage=2"],
      ["parallel.zero_stage=3"],
      ["parallel.zero_stage=3", "memory.optimizer_offload=host"],
      ["parallel.zero_stage=3", "memory.optimizer_offload=host", "memory.parameter_offload=host"],
    ];
    const needs: number[] = [];
    for (const own of asked) needs.push((await forecast(configOf(...base, ...own), h100)).device.peakBytes);
    const allowance = 2 * 0.65 * 2 ** 30;
    for (let i = 1; i < needs.length; i++) {
      // From stage 3 on there are two more kinds of collectives.
      expect(needs[i] - (i >= 3 ? allowance : 0)).toBeLessThanOrEqual(needs[i - 1] - (i > 3 ? allowance : 0));
    }
  });

  test("weights of a layer are on the device from the layer before on", async () => {
    const made = await forecast(
      configOf(...base, "parallel.zero_stage=3", "memory.parameter_offload=host"),
      h100,
    );
    const { runs } = made.anatomy;
    const fetched = made.parts.filter(({ isCast, layer }) => isCast && layer === "layers.2");
    expect(fetched.length).toBeGreaterThanOrEqual(2 * 9);
    for (const { first, last } of fetched) {
      const run = runs.findIndex((own) => own.first <= last && last <= own.last);
      expect(first).toBe(runs[run - 1].first);
    }
  });
});

describe("anatomy", () => {
  test("layers of parameters", () => {
    expect(layerOf("model.layers.3.mlp.up_proj.weight")).toBe("layers.3");
    expect(layerOf("lm_head.weight")).toBe("lm_head");
    expect(layerOf("scale")).toBe("scale");
  });

  test("forward, loss and backward of every layer, in order", async () => {
    const { planned, anatomy } = await forecast(configOf("memory.activation_checkpointing=layer"), null);
    const numbered = anatomy.runs.map(({ layer }) => layer).filter((layer) => layer.startsWith("layers."));
    const up = [0, 1, 2, 3].map((i) => `layers.${i}`);
    expect(numbered).toEqual([...up, ...[...up].reverse()]);
    expect(anatomy.turn).not.toBeNull();
    const kept = anatomy.parts.filter(({ kind, bytes }) => kind === "checkpoints" && bytes === 256 * 64 * 4);
    // The input of each layer, that of the last norm, and what the norm gives the head.
    expect(kept).toHaveLength(6);
    expect(anatomyOf(planned.plan).parts).toHaveLength(planned.plan.buffers.length);
  });
});

describe("roofline", () => {
  test("a product takes its FLOPs at the rate that is reached", async () => {
    const { planned } = await forecast(configOf("precision=bf16", "parallel.sequence=2"), h100);
    const step = planned.plan.steps.find(({ node }) => node.op === "matmul" && node.loc !== "");
    if (!step) throw new Error("no product");
    const slow = {
      ...h100,
      peakFlops: { bf16: 1e9, f32: 1e9 },
      efficiency: { ...h100.efficiency, matmul: 0.5 },
    };
    // 128 tokens of a rank, 64 x 64 weights.
    expect(secondsOf(step, planned.plan.mesh, slow)).toBeCloseTo((2 * 128 * 64 * 64) / 0.5e9 + 4e-6, 9);
  });

  test("lanes wait for what they read, and a step ends with its last lane", async () => {
    const { planned } = await forecast(configOf("parallel.sequence=2"), h100);
    const { spans, seconds } = timelineOf(planned.plan, h100);
    for (const step of planned.plan.steps) {
      for (const before of step.waits.filter((own) => own < step.index))
        expect(spans[step.index].begin).toBeGreaterThanOrEqual(spans[before].end);
    }
    expect(seconds).toBe(Math.max(...spans.map(({ end }) => end)));
  });

  test("twice the rates, half the time", async () => {
    const { planned } = await forecast(configOf(), null);
    const once = timelineOf(planned.plan, cpuMachine(1, 1)).seconds;
    const twice = timelineOf(planned.plan, cpuMachine(2, 1)).seconds;
    expect(twice).toBeLessThan(once);
  });
});

describe("machines", () => {
  test("every efficiency is a part, every rate positive", () => {
    for (const { efficiency, peakFlops, ...rates } of machines) {
      for (const part of Object.values(efficiency)) expect(part > 0 && part < 1).toBe(true);
      const numbers = [...Object.values(peakFlops), ...Object.values(rates)];
      expect(numbers.filter((rate) => typeof rate === "number").every((rate) => rate > 0)).toBe(true);
    }
  });

  test("allowances follow the collectives that a program uses", () => {
    const total = (...collectives: [op: string, axis: string][]) =>
      allowancesFor(collectives.map(([op, axis]) => ({ op, axis }))).reduce(
        (sum, { bytes }) => sum + bytes,
        0,
      ) /
      2 ** 30;
    expect(total()).toBe(0.75);
    expect(total(["all_reduce", "sp"], ["all_gather", "sp"])).toBeCloseTo(1.4);
    expect(total(["all_to_all", "sp"], ["all_reduce", "sp"])).toBeCloseTo(4.5);
    expect(total(["all_to_all", "sp"], ["all_reduce", "dp"])).toBeCloseTo(5.15);
  });
});

test("the timeline's columns hold the peak, and the SVG shows limit, peak and lanes", async () => {
  const made = await forecast(configOf("parallel.sequence=2", "precision=bf16"), h100);
  const own = made.parts.filter(({ memory }) => memory === "device");
  const { spans, seconds } = made.timeline;
  const columns = columnsOf(own, spans, seconds, 50, made.device.byKind.allowance);
  const most = Math.max(...columns.map(({ bytes }) => bytes));
  expect(most).toBe(made.device.timeline[made.device.peakStep]);
  const svg = timelineSvg({
    title: "a <title> & more",
    subtitle: "",
    columns,
    plan: made.planned.plan,
    timeline: made.timeline,
    seconds,
    limit: made.limits.device,
    peakStep: made.device.peakStep,
  });
  expect(svg).toContain("a &lt;title&gt; &amp; more");
  expect(svg).toContain("limit 79.1 GiB");
  expect(svg).toMatch(/peak: \w+/);
  expect(svg).toContain(">compute<");
  expect(svg).toContain(">comm<");
  expect(svg).not.toMatch(/NaN|undefined/);
});
