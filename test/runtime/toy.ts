/** @file Builds the toy program of these tests as a user's program is built. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { buildProgram, type Program } from "../../src/codegen/build.ts";

const here = import.meta.dirname;

/** The toy over a mesh of dp x sp ranks; `outDir` gets its sources and products. */
export function buildToy(outDir: string, dp: number, sp: number): Promise<Program> {
  const text = (name: string) => readFileSync(join(here, name), "utf8");
  const sources = [
    { path: "toy_program.h", text: text("toy_program.h") },
    { path: "toy_main.cc", text: `#define TOY_DP ${dp}\n#define TOY_SP ${sp}\n${text("toy_main.cc")}` },
  ];
  return buildProgram(sources, join(outDir, `${dp}x${sp}`), "cpu");
}
