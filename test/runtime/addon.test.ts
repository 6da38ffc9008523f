/** @file The addon: a program.so in this process, stepped off the main thread, its tensors seen without copying. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import type { Program as Built } from "../../src/codegen/build.ts";
import { openProgram, type Program } from "../../src/launch/program.ts";
import { buildToy } from "./toy.ts";

const minutes = 60_000;
const embed = "model.embed_tokens.weight";
let folder: string;
let alone: Built;
let onFour: Built;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ithaca-addon-"));
  alone = await buildToy(folder, 1, 1);
  onFour = await buildToy(folder, 2, 2);
  (await openProgram(alone.program)).close();
}, 10 * minutes);

afterEach(() => {
  vi.unstubAllEnvs();
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** Puts known numbers into the inputs of every rank. */
function fillInputs(program: Program): void {
  for (let rank = 0; rank < program.ranks; rank += 1) {
    program.view("input_ids", rank).fill(50);
    program.view("labels", rank).fill(1);
    program.view("learning_rate", rank)[0] = 0.1;
  }
}

describe("an open program", () => {
  test("does not step on inputs without a label", async () => {
    const program = await openProgram(onFour.program, { ranks: 4 });
    fillInputs(program);
    for (let rank = 0; rank < 4; rank += 1) program.view("labels", rank).fill(-100);
    await expect(program.step()).rejects.toThrow('no token has a label: all of "labels" is negative');
    program.view("labels", 3)[5] = 7;
    await program.step();
    expect(program.view("tokens")[0]).toBe(1);
    program.close();
  });

  test("tells what it is", async () => {
    const program = await openProgram(alone.program, { threads: 2 });
    expect(program).toMatchObject({ name: "toy", hash: "0123abcd", ranks: 1, modelFlops: 1e9 });
    expect(program.axes).toEqual([
      { name: "dp", degree: 1 },
      { name: "sp", degree: 1 },
    ]);
    expect(program.tensors.find(({ name }) => name === "input_ids")).toEqual({
      name: "input_ids",
      role: "input",
      dtype: "i32",
      memory: "device",
      shape: [4, 8],
      share: [4, 8],
      axes: ["dp", "sp"],
      times: 2,
    });
    expect(program.tensors.find(({ name }) => name === "loss")).toMatchObject({ role: "output", shape: [] });
    program.close();
  });

  test("shows its memory, not a copy", async () => {
    const program = await openProgram(alone.program);
    await program.load({ seed: 7 });
    fillInputs(program);
    const weight = program.view(embed);
    const before = Float32Array.from(weight as Float32Array);
    expect(weight).toBeInstanceOf(Float32Array);
    expect(weight).toHaveLength(800);
    expect(program.view("input_ids")).toHaveLength(64);
    expect(program.view("model.norm.weight")).toEqual(new Uint16Array(8).fill(0x3f80));
    expect(program.view(embed).buffer).toBe(weight.buffer);

    const { seconds } = await program.step();
    expect(seconds).toBeGreaterThan(0);
    expect(weight).not.toEqual(before);
    const mean = before.reduce((sum, x) => sum + x, 0) / 800;
    expect(program.view("loss")[0]).toBeCloseTo(0.5 + mean, 5);
    expect(program.view("tokens")[0]).toBe(64);

    weight.fill(2);
    await program.step();
    expect(program.view("loss")[0]).toBeCloseTo(2.5, 5);
    program.close();
    expect(weight).toHaveLength(0);
  });

  test("runs its ranks as threads", async () => {
    const losses: number[][] = [];
    for (const built of [alone, onFour]) {
      const program = await openProgram(built.program, { ranks: built === onFour ? 4 : 1 });
      await program.load({ seed: 3 });
      fillInputs(program);
      const trajectory: number[] = [];
      for (let step = 0; step < 3; step += 1) {
        await program.step();
        trajectory.push(program.view("loss", program.ranks - 1)[0] as number);
      }
      losses.push(trajectory);
      program.close();
    }
    for (const [i, loss] of (losses[0] as number[]).entries()) expect(losses[1]?.[i]).toBeCloseTo(loss, 5);
  });

  test("leaves the main thread free, and takes one step at a time", async () => {
    vi.stubEnv("TOY_SLEEP_MS", "200");
    const program = await openProgram(alone.program);
    let turns = 0;
    const timer = setInterval(() => {
      turns += 1;
    }, 5);
    const step = program.step();
    expect(() => program.step()).toThrow("a step of this program is under way; await it first");
    expect(() => program.close()).toThrow("under way");
    await step;
    clearInterval(timer);
    expect(turns).toBeGreaterThan(5);
    program.close();
  });

  test("turns C++ errors into JavaScript's", async () => {
    await expect(openProgram(join(folder, "none.so"))).rejects.toThrow("can't load the program");
    await expect(openProgram(onFour.program)).rejects.toThrow(
      "was compiled for 4 ranks; open it with { ranks: 4 }",
    );
    await expect(openProgram(alone.program, { threads: 0 })).rejects.toThrow(
      "threads must be a whole number",
    );
    await expect(openProgram(alone.program, { threads: 5 })).rejects.toThrow("room for 4 threads");
    vi.stubEnv("TOY_FAIL_RANK", "2");
    const program = await openProgram(onFour.program, { ranks: 4 });
    expect(() => program.view("nothing")).toThrow('toy has no tensor "nothing"');
    expect(() => program.view("loss", 4)).toThrow("rank is 4; the program has 4 ranks");
    await expect(program.load({ weights: [join(folder, "none.safetensors")] })).rejects.toThrow(
      "No such file",
    );
    await expect(program.step()).rejects.toThrow(
      "rank 2, lane compute, step 1 (update): the toy was told to fail",
    );
    await expect(program.step()).rejects.toThrow("failed in an earlier step");
    program.close();
    program.close();
    expect(() => program.view("loss")).toThrow("the program is closed");
    expect(() => program.step()).toThrow("the program is closed");
  });

  test("can be dropped without close, while its views live on", async () => {
    let program: Program | undefined = await openProgram(alone.program);
    const loss = program.view("loss");
    program = undefined;
    for (let i = 0; i < 5; i += 1) {
      globalThis.gc?.();
      await sleep(5);
    }
    loss[0] = 3;
    expect(loss[0]).toBe(3);
  });
});
