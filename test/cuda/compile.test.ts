/**
 * @file nvcc and g++ have nothing to say about the CUDA target, its runtime, its kernels and a generated program, for
 * every architecture that it supports. No GPU is needed.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { buildProgram, compileAll } from "../../src/codegen/build.ts";
import { emitCuda } from "../../src/codegen/cuda/emit.ts";
import { findCuda, supportedArchitectures } from "../../src/codegen/cuda/toolchain.ts";
import { type BuildTarget, cudaTarget, type Unit } from "../../src/codegen/targets.ts";
import { findToolchain, packageRoot, runProcess, runtimeRoot } from "../../src/codegen/toolchain.ts";
import { compileConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { prepareData } from "../../src/data/prepare.ts";
import { loadOps } from "../../src/extend/ops.ts";
import { parse } from "../../src/ir/parse.ts";
import { runFile, vocabularySize } from "../../src/launch/run-file.ts";
import { trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { planFor } from "../support/compiled.ts";
import { decoder, PLAIN, TRAINING } from "../support/decoders.ts";

const cuda = await findCuda();
const hasLibraries = cuda?.cublasLt !== undefined && cuda.cudnn !== undefined;
if (!cuda) console.log("skipped: there is no nvcc to compile CUDA programs with");
else if (!hasLibraries)
  console.log("skipped: the CUDA target's host code needs the headers of cuBLASLt and cuDNN");

const goldens = fileURLToPath(new URL("../golden/", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "ithaca-nvcc-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A warning is an error, so that no object that was made with one stays in the cache. */
function strict(unit: Unit): Unit {
  const flags = unit.compiler
    ? ["-Werror=all-warnings", "-Xcompiler=-Werror"]
    : ["-Wall", "-Wextra", "-Werror"];
  return { ...unit, flags: [...unit.flags, ...flags] };
}

function filesOf(folder: string, extension: string): string[] {
  const names = readdirSync(join(runtimeRoot, folder)).filter((name) => name.endsWith(extension));
  return names.map((name) => join(runtimeRoot, folder, name));
}

const target = (): BuildTarget => cudaTarget(cuda as NonNullable<typeof cuda>, supportedArchitectures);

/** Compiles, or throws with what the compiler said. Returns the objects. */
async function compiled(units: readonly Unit[]): Promise<string[]> {
  return await compileAll(await findToolchain(), units.map(strict));
}

/** What an object holds for GPUs: "sm_90" for machine code, "compute_100" for PTX, which later ones can run. */
function codeIn(object: string): string[] {
  const bytes = readFileSync(object);
  const found = new Set<string>();
  // Fat binaries begin with this number and the lengths of their header and of the entries behind it.
  const magic = Uint8Array.of(0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0);
  for (let at = bytes.indexOf(magic); at >= 0; at = bytes.indexOf(magic, at + 1)) {
    const end = at + 16 + Number(bytes.readBigUInt64LE(at + 8));
    for (let entry = at + 16; entry < end; ) {
      const kind = bytes.readUInt16LE(entry) === 1 ? "compute" : "sm";
      found.add(`${kind}_${bytes.readUInt32LE(entry + 28)}`);
      entry += bytes.readUInt32LE(entry + 4) + Number(bytes.readBigUInt64LE(entry + 8));
    }
  }
  return [...found].sort();
}

describe.skipIf(!cuda)(`for sm_${supportedArchitectures.join(", sm_")}`, { timeout: 900_000 }, () => {
  const kernels = filesOf("kernels/cuda", ".cu").map((path) => ({ path, name: basename(path) }));
  test.each(kernels)("$name compiles", async ({ path }) => {
    const [object = ""] = await compiled([target().runtimeUnit(path)]);
    expect(codeIn(object)).toEqual(
      [...supportedArchitectures.map((name) => `sm_${name}`), "compute_100"].sort(),
    );
  });

  test("kernels of one's own compile, called by a program", async () => {
    const fixtures = ["test/extend/fixtures/center.ts", "examples/custom-op/squared_relu.ts"];
    for (const file of fixtures) loadOps(join(packageRoot, file));
    const graph = parse(`graph own {
  input %x                                : bf16[2, 6, 7]
  input %w                                : bf16[7]
  %y, %mean = center %x, %w               : bf16[2, 6, 7], f32[2, 6]
  %dx, %dw = center_grad %x, %w, %y       : bf16[2, 6, 7], f32[7]
  %z = squared_relu %dx                   : bf16[2, 6, 7]
  return z = %z
  return dw = %dw
}
`);
    const sources = emitCuda(planFor(graph, 1, "cuda"), { threads: 1, modelFlops: 0 });
    const own = sources.filter(({ includes }) => includes !== undefined);
    for (const { path, text } of own) writeFileSync(join(scratch, path), text);
    expect(own.map(({ path }) => path)).toEqual(["kernels_0.cu", "kernels_1.cu"]);
    await compiled(own.map(({ path }) => target().runtimeUnit(join(scratch, path))));
  });

  test.skipIf(!hasLibraries)("the runtime's host code compiles", async () => {
    const folders = ["src/cuda", "kernels/cuda", ...(cuda?.nccl ? ["src/nccl"] : [])];
    await compiled(folders.flatMap((folder) => filesOf(folder, ".cc")).map(target().runtimeUnit));
  });

  test.skipIf(!hasLibraries)("a training program links, with NCCL where there is one", async () => {
    const folder = join(scratch, "linked");
    mkdirSync(folder);
    const values = {
      ...{ model: join(goldens, "llama/model"), data: join(goldens, "tokens.bin"), output_dir: folder },
      ...{ sequence_length: 32, max_steps: 1, learning_rate: 1e-3, precision: "bf16", threads: 1 },
      ...{ target: "cuda", parallel: { comm: cuda?.nccl ? "nccl" : "local" } },
    };
    const config = parseConfig(JSON.stringify(values), join(folder, "config.yaml"));
    const { sources, model } = await compileConfig(config);
    const strictly: BuildTarget = {
      ...target(),
      runtimeUnit: (path) => strict(target().runtimeUnit(path)),
      generatedUnit: (path, own) => strict(target().generatedUnit(path, own)),
    };
    const { train } = await buildProgram(sources, folder, strictly, undefined, config.parallel.comm);
    const data = await prepareData(config, vocabularySize(model));
    writeFileSync(join(folder, "run.json"), JSON.stringify(await runFile(config, model, data, folder)));
    const { code, stderr } = await runProcess(train, ["--run", join(folder, "run.json")]);
    if (code === 0) expect(stderr).toBe("");
    else expect(stderr).toMatch(/^ithaca: the program was compiled for CUDA, and CUDA sees no GPU here/);
  });

  test.skipIf(!hasLibraries).each(["fp32", "bf16"] as const)(
    "a program in %s compiles",
    async (precision) => {
      const kinds = [
        "attention",
        "mlp",
        "layers",
        "tile",
        "attention layers",
        "bias",
        "halves",
        "turned",
      ] as const;
      const graph = decoder({ ...PLAIN, blocks: kinds.map((kind) => ({ kind, a: 0, b: 1 })) });
      const options = { ...TRAINING, precision, gradientAccumulationSteps: 2, lossTiles: 2 };
      const stages = runPipeline(graph, trainingPipeline(options));
      const plan = planFor(stages[stages.length - 1].graph, 2, "cuda");
      const folder = join(scratch, precision);
      mkdirSync(folder);
      const sources = emitCuda(plan, { threads: 2, modelFlops: 1234 });
      for (const { path, text } of sources) writeFileSync(join(folder, path), text);
      const files = sources
        .filter(({ path }) => /\.(cc|cu)$/.test(path))
        .map(({ path }) => join(folder, path));
      expect(files.some((path) => path.endsWith(".cu"))).toBe(true);
      await compiled(files.map((path) => target().generatedUnit(path, folder)));
    },
  );
});
