/** @file Kernels of one's own in compiled programs: against eval, in training, on a simulated GPU; and mistakes in them. */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { buildProgram } from "../../src/codegen/build.ts";
import { emitCpu } from "../../src/codegen/cpu/emit.ts";
import { compileConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { loadOps } from "../../src/extend/ops.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { parse } from "../../src/ir/parse.ts";
import { planFor, runCompiled } from "../support/compiled.ts";
import { refusalOf } from "../support/expect.ts";
import { distance, oneStep } from "../support/one-step.ts";
import { errorOf, filled } from "../support/random.ts";
import { simulatedCuda } from "../support/simulated-cuda.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-own-kernels-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const root = fileURLToPath(new URL("../../", import.meta.url));
const example = join(root, "examples/custom-op");

describe("agree with eval", () => {
  loadOps(join(example, "squared_relu.ts"));
  loadOps(fileURLToPath(new URL("fixtures/center.ts", import.meta.url)));

  const graphOf = (dtype: string, axes: string) =>
    parse(`graph own${dtype} ${axes === "" ? "" : "mesh(x=2) "}{
  input %x                                                        : ${dtype}[2, 6${axes}, 7]
  input %w                                                        : ${dtype}[7]
  input %dy                                                       : ${dtype}[2, 6${axes}, 7]
  %y, %y.mean = center %x, %w by=0.3 negative=true                : ${dtype}[2, 6${axes}, 7], f32[2, 6${axes}]
  %dx, %dw = center_grad %x, %w, %dy by=1.5                       : ${dtype}[2, 6${axes}, 7], f32[7]${axes === "" ? "" : "{sum@x}"}
  %z = squared_relu %x                                            : ${dtype}[2, 6${axes}, 7]
  return y = %y
  return mean = %y.mean
  return dx = %dx
  return dw = %dw
  return z = %z
}
`);
  test.each([
    ["cpu", "f32", ""],
    ["cpu", "bf16", ""],
    ["cpu", "f32", "@x"],
    ["cuda", "f32", ""],
    ["cuda", "bf16", "@x"],
  ] as const)("on %s in %s%s", async (target, dtype, axes) => {
    const graph = graphOf(dtype, axes);
    const arrays = new Map(
      graph.params.map(({ value }, i) => [value.name, filled(value.type, "normal", i + 1)]),
    );
    const { outputs: want } = interpret(graph, arrays);
    const on = target === "cuda" ? simulatedCuda : target;
    const { outputs: got } = await runCompiled(graph, arrays, 2, target, undefined, on);
    for (const [name, { data }] of want) {
      const most = dtype === "f32" || name === "mean" || name === "dw" ? 2e-5 : 2 ** -7;
      expect(errorOf(got.get(name) as Float64Array, data), name).toBeLessThanOrEqual(most);
    }
  });
});

describe("train", () => {
  /** The example's model, and the same with ops of ours in place of squared_relu. */
  const models = {
    own: { source: join(example, "model.ts"), ops: [join(example, "squared_relu.ts")] },
    ours: { source: join(scratch, "model.ts"), ops: [] },
  };
  const text = readFileSync(models.own.source, "utf8")
    .replace(/import \{ squared_relu \}.*\n/, "import { mul, relu } from 'ithaca/nn';\n")
    .replace(/squared_relu\((.*)\)\)\)\)/, "squared($1))))")
    .concat("\nfunction squared(x: Tensor): Tensor {\n  return mul(relu(x), relu(x));\n}\n");
  writeFileSync(models.ours.source, text);
  const step = (model: keyof typeof models, settings: Readonly<Record<string, unknown>> = {}) =>
    oneStep({
      model: {
        source: models[model].source,
        config: { vocab_size: 1003, width: 32, layers: 2, heads: 2, initializer_range: 0.2 },
      },
      ops: models[model].ops,
      data: join(root, "test/golden/tokens.bin"),
      sequence_length: 48,
      ...settings,
    });

  test("as the same function of built-in ops does", async () => {
    const { loss, gradient } = distance(await step("own"), await step("ours"));
    expect(loss).toBeLessThan(1e-6);
    expect(gradient).toBeLessThan(1e-5);
  });
  test("to the same numbers on a shared sequence, in tiles, recomputed", async () => {
    const settings = {
      parallel: { sequence: 2 },
      gradient_accumulation_steps: 1,
      memory: { tiled_mlp: 3, tiled_loss: 2, activation_checkpointing: "layer" },
    };
    const { loss, gradient } = distance(await step("own", settings), await step("own"));
    expect(loss).toBeLessThan(1e-6);
    expect(gradient).toBeLessThan(1e-5);
  });
  test("put in by a pass, whose file makes the op known", async () => {
    const passes = [{ file: join(example, "use-squared-relu.ts"), after: "precision" }];
    const { loss, gradient } = distance(await step("ours", { passes }), await step("own"));
    expect(loss).toBe(0);
    expect(gradient).toBe(0);
  });
  test("in bf16 within its rounding", async () => {
    const { loss, gradient } = distance(await step("own", { precision: "bf16" }), await step("own"));
    expect(loss).toBeLessThan(1e-3);
    expect(gradient).toBeLessThan(0.05);
  });
});

describe("in a build", () => {
  const graph = (op: string) =>
    parse(`graph g {\n  input %x : f32[2, 3]\n  %y = ${op} %x : f32[2, 3]\n  return y = %y\n}\n`);
  /** The example's op under another name, with its kernel in a folder of its own. */
  const copied = (name: string, change: (text: string, file: string) => string = (text) => text) => {
    const folder = join(scratch, name);
    mkdirSync(folder, { recursive: true });
    for (const extension of ["ts", "cc", "cu"]) {
      const source = readFileSync(join(example, `squared_relu.${extension}`), "utf8");
      const file = `${name}.${extension}`;
      writeFileSync(join(folder, file), change(source.replaceAll("squared_relu", name), file));
    }
    loadOps(join(folder, `${name}.ts`));
    return folder;
  };
  const build = async (name: string): Promise<string> => {
    const out = join(scratch, name, "build");
    const sources = emitCpu(planFor(graph(name)), { threads: 1, modelFlops: 0 });
    const said: string[] = [];
    await buildProgram(sources, out, "cpu", (line) => said.push(line));
    return said.join("\n");
  };

  test("a changed kernel, or a header it reaches, is compiled again, and an unchanged one is not", async () => {
    const stamp = String(process.pid);
    const folder = copied(`again_${stamp}`, (text, file) =>
      file.endsWith(".cc") ? text.replace("#include", '#include "own.h"\n#include') : text,
    );
    writeFileSync(join(folder, "own.h"), `// ${stamp}\n`);
    expect(await build(`again_${stamp}`)).toContain("compiling the program");
    expect(await build(`again_${stamp}`)).toBe("");
    writeFileSync(join(folder, "own.h"), `// ${stamp}, changed\n`);
    expect(await build(`again_${stamp}`)).toContain("compiling the program");
    const kernel = join(folder, `again_${stamp}.cc`);
    writeFileSync(kernel, readFileSync(kernel, "utf8").replace("value < 0.0f", "value <= 0.0f"));
    expect(await build(`again_${stamp}`)).toContain("compiling the program");
  });

  test("a kernel with other parameters is shown in its file, beside what it is to be", async () => {
    const folder = copied("other_parameters", (text, file) =>
      file.endsWith(".cc") ? text.replace("ithaca::Tensor<T> result)", "T* result, int n)") : text,
    );
    const said = await refusalOf(() => build("other_parameters"));
    const file = join(folder, "other_parameters.cc");
    expect(said.startsWith(`${file}: the kernel of other_parameters can't be compiled\n`)).toBe(true);
    expect(said).toContain(`${file}:5:6: note: candidate: `);
    expect(said).toContain(
      "  other_parameters.cc is to define, outside of any namespace:\n" +
        "    void other_parameters(ithaca::Tensor<const float> x, ithaca::Tensor<float> result)\n",
    );
    expect(said).not.toContain(".tmp/");
  });

  test("a kernel that lacks a function is the user's to mend", async () => {
    const folder = copied("unlinked", (text, file) =>
      file.endsWith(".cc")
        ? text
            .replace("\ntemplate", "\nfloat elsewhere(float);\ntemplate")
            .replace("= value", "= elsewhere(value)")
        : text,
    );
    const said = await refusalOf(() => build("unlinked"));
    expect(said.split("\n")[0]).toBe(
      `${join(folder, "unlinked.cc")}: the program with this kernel can't be linked`,
    );
    expect(said).toContain("undefined reference to `elsewhere(float)'");
    expect(said).toContain("go into LDFLAGS");
  });

  test("a missing kernel is named with what to add", async () => {
    const folder = copied("only_gpu", (text) => text.replace(/\n {2}cpu: .*/, ""));
    expect(await refusalOf(() => build("only_gpu"))).toBe(
      `${join(folder, "only_gpu.ts")}: the op only_gpu has no kernel for target: cpu\n` +
        '  Add cpu: "./only_gpu.cc" to its defineKernel, or train with another target.',
    );
    const none = copied("no_kernel", (text) => text.replace(/export const kernel = [^;]*;\n/, ""));
    expect(await refusalOf(() => build("no_kernel"))).toBe(
      `${join(none, "no_kernel.ts")}: the op no_kernel has no kernel for target: cpu\n` +
        '  Add: export const kernel = defineKernel(no_kernel, { cpu: "./no_kernel.cc" })',
    );
  });

  test("a configuration is read with its ops, from beside it", async () => {
    for (const name of ["model.ts", "squared_relu.ts", "squared_relu.cc", "squared_relu.cu"])
      copyFileSync(join(example, name), join(scratch, name));
    const text = readFileSync(join(example, "config.yaml"), "utf8").replaceAll("../../", root);
    const refused = () => parseConfig(text, join(scratch, "config.yaml"), ["ops=[none.ts]"]);
    expect(await refusalOf(refused)).toContain("there is no file");
    const config = parseConfig(text.replace("ops: [", "ops: [./"), join(scratch, "config.yaml"));
    expect(config.ops).toEqual([join(scratch, "squared_relu.ts")]);
    // The example's own file has the name already in this process.
    expect(await refusalOf(() => compileConfig(config))).toContain('there is an op "squared_relu" already');
  });
});
