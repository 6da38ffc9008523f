/** @file A program of a few lines of C++, built, loaded into this process and stepped. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildProgram } from "../../src/codegen/build.ts";
import { openProgram } from "../../src/launch/program.ts";

/** y = FACTOR x, four floats. */
const source = (factor: number) => `
#include "ithaca/program.h"
using namespace ithaca;

namespace {

const TensorSpec kTensors[] = {
    {"x", Role::input, DType::f32, Memory::device, Init::none, 0, 1, {4}, {""}, 1, 0, 16},
    {"y", Role::output, DType::f32, Memory::device, Init::none, 0, 1, {4}, {""}, 1, 256, 16},
};

void compute(Rank& rank) {
  const auto* x = reinterpret_cast<const float*>(rank.device);
  auto* y = reinterpret_cast<float*>(rank.device + 256);
  for (int i = 0; i < 4; ++i) y[i] = ${factor} * x[i];
}

const LaneSpec kLanes[] = {{"compute", compute}};
const StepSpec kSteps[] = {{"scale", "compute"}};
const ProgramSpec kProgram = {kProgramAbi, "toy", "0", 4096, 0, 0, 0, nullptr, 2, kTensors, 1, kLanes, 0, 1, kSteps, 1.0};

}  // namespace

extern "C" const ProgramSpec* ithaca_program() { return &kProgram; }
`;

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ithaca-program-"));
});

afterAll(() => rmSync(folder, { recursive: true }));

function build(factor: number, ...more: { path: string; text: string }[]) {
  return buildProgram([{ path: "program.cc", text: source(factor) }, ...more], folder, "cpu");
}

test("is stepped on what its inputs hold", async () => {
  const { program: path } = await build(2);
  const program = await openProgram(path, { threads: 2 });
  expect(program).toMatchObject({ name: "toy", ranks: 1, deviceBytes: 4096, hostBytes: 0, modelFlops: 1 });
  expect(program.tensors).toEqual([
    expect.objectContaining({ name: "x", role: "input", dtype: "f32", shape: [4], times: 1 }),
    expect.objectContaining({ name: "y", role: "output", memory: "device", share: [4], axes: [""] }),
  ]);
  const y = program.view("y");
  for (const factor of [1, 10]) {
    program.view("x").set([1, 2, 3, 4].map((value) => value * factor));
    const { seconds } = await program.step();
    expect(seconds).toBeGreaterThan(0);
    expect([...y]).toEqual([2, 4, 6, 8].map((value) => value * factor));
  }
  expect(() => program.view("z")).toThrow(/z/);
  program.close();
  expect(y).toHaveLength(0);
  expect(() => program.view("y")).toThrow("the program is closed");
});

test("takes the place of another in the same folder", async () => {
  await build(2, { path: "extra.cc", text: "int extra() { return 1; }\n" });
  expect(readdirSync(folder)).toContain("extra.cc");
  const { program: path } = await build(3);
  expect(readdirSync(folder).sort()).toEqual(["program.cc", "program.so", "sources.json", "train"]);
  const program = await openProgram(path);
  program.view("x").fill(1);
  await program.step();
  expect([...program.view("y")]).toEqual([3, 3, 3, 3]);
  program.close();
});

test("that doesn't compile shows its own file", async () => {
  await expect(build(2, { path: "broken.cc", text: "int f() { return undeclared; }\n" })).rejects.toThrow(
    /broken\.cc can't be built[\s\S]*'undeclared' was not declared/,
  );
});

test("that isn't there", async () => {
  await expect(openProgram(join(folder, "none.so"))).rejects.toMatchObject({
    location: join(folder, "none.so"),
  });
});
