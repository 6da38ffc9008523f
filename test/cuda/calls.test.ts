/**
 * @file What the host issues on the simulated device is the plan, call for call: streams, waits and signals in its order, and
 * copies, products, collectives and kernels on the bytes of the step that makes them.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test, vi } from "vitest";
import { sharedLoops } from "../../src/ir/order.ts";
import { bytesSent, lanes, type Plan, type Slot, type Step } from "../../src/ir/plan.ts";
import { localBytes } from "../../src/ir/type.ts";
import { prepare, type Settings } from "../support/simulated-run.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-calls-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
afterEach(() => vi.unstubAllEnvs());

const offloads = { activation_offload: "host", optimizer_offload: "host" };
const everything = {
  max_steps: 1,
  sequence_length: 24,
  gradient_accumulation_steps: 2,
  memory: { tiled_loss: 3, activation_checkpointing: "layer", ...offloads },
};

/** A line of the simulated device's log. */
interface Call {
  readonly lane: number;
  readonly kind: "run" | "wait" | "record" | "sync";
  /** The event, or the call's name. */
  readonly what: string;
  readonly touches: readonly Range[];
}

/** Bytes `from` up to `to` of an arena, 0 on the device and 1 on the host. */
interface Range {
  /** Read, written, or pointed to by an argument of a kernel of ours. */
  readonly how: "r" | "w" | "p";
  readonly arena: number;
  readonly from: number;
  readonly to: number;
}

function readLog(path: string): Call[] {
  return readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .filter((line) => !line.startsWith("- device"))
    .map((line) => {
      const [lane, kind, what, ...touches] = line.split(" ");
      return {
        lane: Number(lane),
        kind: kind as Call["kind"],
        what,
        touches: touches.map((touch) => {
          const [, how, arena, from, bytes] = /^([rwp])(\d+)\+(\d+):(\d+)$/.exec(touch) as RegExpExecArray;
          const range = { how: how as Range["how"], arena: Number(arena), from: Number(from) };
          return { ...range, to: Number(from) + Number(bytes) };
        }),
      };
    });
}

/** A step as it is issued: in which turn of the loops around it, with the events that it waits for and signals. */
interface Issued {
  readonly step: Step;
  readonly turn: readonly number[];
  readonly waits: readonly number[];
  readonly signals: readonly number[];
}

/** All steps of one run of the plan. An event is of a step and the number of loops that it shares with one that waits. */
function issuedSteps(plan: Plan): { issued: Issued[]; events: number } {
  const { steps, loops } = plan;
  const awaited = steps.flatMap((step) =>
    step.waits.map((before) => ({ before, depth: sharedLoops(step, steps[before]) })),
  );
  awaited.sort((a, b) => a.before - b.before || a.depth - b.depth);
  const keys = [...new Set(awaited.map(({ before, depth }) => `${before} ${depth}`))];
  const issued: Issued[] = [];
  const walk = (from: number, to: number, turn: readonly number[]): void => {
    for (let at = from; at < to; ) {
      const step = steps[at];
      const loop = step.loops[turn.length];
      if (loop === undefined) {
        const waits = step.waits.map((before) =>
          keys.indexOf(`${before} ${sharedLoops(step, steps[before])}`),
        );
        const signals = keys.flatMap((key, event) => (key.startsWith(`${at} `) ? [event] : []));
        issued.push({ step, turn, waits, signals });
        at++;
        continue;
      }
      const { last, times } = loops[loop];
      for (let own = 0; own < times; own++) walk(at, last + 1, [...turn, own]);
      at = last + 1;
    }
  };
  walk(0, steps.length, []);
  return { issued, events: keys.length };
}

/** The bytes of a slot in one turn; those of a workspace are all of its buffer. */
function rangeOf({ buffers, mesh }: Plan, slot: Slot, turn: readonly number[], isWorkspace = false) {
  const { memory, offset, bytes } = buffers[slot.buffer];
  const from = slot.strides.reduce((at, stride, depth) => at + stride * turn[depth], offset + slot.start);
  const arena = memory === "device" ? 0 : 1;
  return { arena, from, to: from + (isWorkspace ? bytes : localBytes({ ...slot.type, times: 1 }, mesh)) };
}

const ascending = (events: readonly number[]) => [...events].sort((a, b) => a - b);

/** Holds a log, written with ITHACA_CUDA_SYNC=1, against the plan; the bytes of collectives sent to other ranks. */
function expectPlan(calls: readonly Call[], plan: Plan): Map<string, number> {
  const { issued, events } = issuedSteps(plan);
  const sent = new Map<string, number>();
  let at = 0;
  const taken = (kind: Call["kind"], lane: number) => {
    const from = at;
    while (calls[at]?.kind === kind && calls[at].lane === lane) at++;
    return calls.slice(from, at);
  };
  for (const { step, turn, waits, signals } of issued) {
    const where = `step ${step.index} (${step.node.op}) in turn ${turn}`;
    const lane = lanes.indexOf(step.lane);
    expect(ascending(taken("wait", lane).map(({ what }) => Number(what))), where).toEqual(ascending(waits));
    // In front of the step's calls all streams are waited for.
    for (const own of lanes.keys()) expect(taken("sync", own), where).toHaveLength(1);
    const workspace = step.workspace ? [rangeOf(plan, step.workspace, turn, true)] : [];
    const outputs = step.outputs.map((slot) => rangeOf(plan, slot, turn));
    const all = [...step.inputs.map((slot) => rangeOf(plan, slot, turn)), ...outputs, ...workspace];
    const runs = taken("run", lane);
    for (const { what, touches } of runs) {
      for (const { how, arena, from, to } of touches) {
        const allowed = how === "w" ? [...outputs, ...workspace] : all;
        const isInside = allowed.some(
          (own) => own.arena === arena && own.from <= from && (how === "p" ? from < own.to : to <= own.to),
        );
        expect(isInside, `${where}: ${what} on ${arena}+${from}:${to - from}`).toBe(true);
      }
    }
    const collectives = runs.filter(({ what }) => what.startsWith("nccl"));
    expect(collectives.length, where).toBe(step.lane === "comm" ? 1 : 0);
    if (collectives.length > 0) {
      const names = {
        all_to_all: "ncclGroup",
        all_gather: "ncclAllGather",
        reduce_scatter: "ncclReduceScatter",
        all_reduce: "ncclAllReduce",
      };
      expect(collectives[0].what, where).toBe(names[step.node.op as keyof typeof names]);
      sent.set(step.node.op, (sent.get(step.node.op) ?? 0) + bytesOf(collectives[0]));
    }
    if (step.lane === "to_host" || step.lane === "to_device") {
      const [copied] = runs;
      const ranges = [...step.inputs, ...step.outputs].map((slot) => rangeOf(plan, slot, turn));
      expect(
        copied.touches.map(({ arena, from, to }) => ({ arena, from, to })),
        where,
      ).toEqual(ranges);
    }
    expect(
      taken("record", lane).map(({ what }) => Number(what)),
      where,
    ).toEqual(signals);
  }
  // What is left joins the streams.
  for (const { kind, what } of calls.slice(at)) {
    if (kind === "wait" || kind === "record") expect(Number(what)).toBeGreaterThanOrEqual(events);
    else expect(kind).toBe("sync");
  }
  expect(events).toBeGreaterThan(0);
  const pointers = calls.flatMap(({ touches }) => touches.filter(({ how }) => how === "p"));
  expect(pointers.length).toBeGreaterThan(plan.steps.length);
  return sent;
}

/** Bytes read by a collective. */
const bytesOf = ({ touches }: Call): number =>
  touches.filter(({ how }) => how === "r").reduce((total, { from, to }) => total + to - from, 0);

async function logged(settings: Settings, ranks: number) {
  const log = join(scratch, `calls-${ranks}.log`);
  vi.stubEnv("ITHACA_CUDA_SYNC", "1");
  vi.stubEnv("ITHACA_SIMULATED_LOG", log);
  vi.stubEnv("TMPDIR", scratch);
  const { compiled, run } = await prepare(scratch, "cuda", { ...everything, ...settings });
  await run();
  const logs = Array.from({ length: ranks }, (_, rank) => readLog(ranks === 1 ? log : `${log}-${rank}`));
  return { plan: compiled.plan as Plan, logs };
}

test("one rank", { timeout: 600_000 }, async () => {
  const { plan, logs } = await logged({}, 1);
  expect(expectPlan(logs[0], plan).size).toBe(0);
});

test("every rank of two replicas by NCCL, and the bytes of its collectives", {
  timeout: 600_000,
}, async () => {
  const { plan, logs } = await logged({ parallel: { sequence: 2, data: 2, comm: "nccl" } }, 4);
  for (const calls of logs) {
    const read = expectPlan(calls, plan);
    expect([...read.keys()].sort()).toEqual([...bytesSent(plan).keys()].sort());
    // Of a group, half goes to the rank itself.
    expect(read.get("all_to_all")).toBe(2 * (bytesSent(plan).get("all_to_all") as number));
  }
});

test("a traced step has a span for each step of the plan, behind those that it waits for", {
  timeout: 600_000,
}, async () => {
  const traces = mkdtempSync(join(scratch, "traces-"));
  const settings = { ...everything, max_steps: 3 };
  const untraced = await (await prepare(scratch, "cuda", settings)).run();
  const { compiled, run } = await prepare(scratch, "cuda", settings, traces);
  expect(await run()).toEqual(untraced);
  const { traceEvents } = JSON.parse(readFileSync(join(traces, "rank-0.json"), "utf8")) as {
    traceEvents: { ph: string; name: string; cat: string; ts: number; dur: number; args: { step: number } }[];
  };
  const plan = compiled.plan as Plan;
  const spans = traceEvents.filter(({ ph }) => ph === "X");
  const last = new Map<number, (typeof spans)[number]>();
  for (const span of spans) {
    const step = plan.steps[span.args.step];
    expect(span.cat).toBe(step.lane);
    expect(span.name).toBe(`${step.node.op} %${step.node.results[0]?.name ?? ""}`);
    expect(span.dur).toBeGreaterThanOrEqual(0);
    for (const before of step.waits) {
      const awaited = last.get(before);
      // Times are rounded to nanoseconds.
      if (awaited) expect(span.ts).toBeGreaterThanOrEqual(awaited.ts + awaited.dur - 0.01);
    }
    last.set(step.index, span);
  }
  expect(last.size).toBe(plan.steps.length);
  expect(spans.length).toBe(issuedSteps(plan).issued.length);
});
