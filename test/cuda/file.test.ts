/** @file A file that can't be written while a step of the CUDA target runs: the step says so, and does not go on with what it has. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { buildProgram } from "../../src/codegen/build.ts";
import { openProgram } from "../../src/launch/program.ts";
import { simulatedCuda } from "../support/simulated-cuda.ts";

const folder = mkdtempSync(join(tmpdir(), "ithaca-file-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Writes 64 bytes of host memory and reads them into the next 64; `before` runs once, in front of the first step. */
const source = (before: string) => `
#include <unistd.h>

#include "cuda/context.h"
#include "cuda/gpu.h"

using namespace ithaca;

namespace {

void compute(Rank& rank) {
  static const bool done = [&] { ${before}; return true; }();
  if (!done) return;
  cuda::Context& gpu = cuda::Context::of(rank);
  gpu.file.spill(rank.host, *rank.file, 128, 64, gpu.to_file);
  gpu.signal(gpu.to_file, 0);
  gpu.wait(gpu.from_file, 0);
  gpu.file.fetch(*rank.file, 128, rank.host + 64, 64, gpu.from_file);
}

const TensorSpec kTensors[] = {
    {"x", Role::state, DType::f32, Memory::host, Init::none, 0, 1, {16}, {""}, 1, 0, 64},
    {"y", Role::state, DType::f32, Memory::host, Init::none, 0, 1, {16}, {""}, 1, 64, 64},
};
const LaneSpec kLanes[] = {{"compute", compute}};
const StepSpec kSteps[] = {{"spill", "to_file"}};
const ProgramSpec kProgram = {kProgramAbi, "copies", "0", 0, 128, 256, 0, nullptr, 2, kTensors, 1, kLanes, 1, 1, kSteps, 1.0,
                              0, false, cuda::open_gpu};

}  // namespace

extern "C" const ProgramSpec* ithaca_program() { return &kProgram; }
`;

async function opened(name: string, before: string) {
  const sources = [{ path: "program.cc", text: source(before) }];
  const { program } = await buildProgram(sources, join(folder, name), simulatedCuda);
  return openProgram(program, { hostSpill: folder });
}

const values = Float32Array.from({ length: 16 }, (_, i) => i - 0.5);

test("what goes to the file comes back, in every step, captured or not", { timeout: 300_000 }, async () => {
  const program = await opened("good", "");
  for (const factor of [1, 2, 3]) {
    const x = values.map((value) => value * factor);
    program.write("x", x);
    await program.step();
    expect(program.read("y")).toEqual(x);
  }
  program.close();
});

test("an error of the file ends the step that met it", { timeout: 300_000 }, async () => {
  const program = await opened("bad", "::close(rank.file->descriptor())");
  program.write("x", values);
  await expect(program.step()).rejects.toThrow(/can't (write|read) \S*ithaca-file-\w+: Bad file descriptor/);
  await expect(program.step()).rejects.toThrow("failed in an earlier step");
  program.close();
});
