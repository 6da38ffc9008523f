/** @file `ithaca check-op`: what holds of an op with everything, and which mistake in record or kernel it names. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test, vi } from "vitest";
import { checkOps, type Finding } from "../../src/check-op.ts";
import { runCommandLine } from "../../src/cli/run.ts";
import { simulatedCuda } from "../support/simulated-cuda.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-check-op-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const example = fileURLToPath(new URL("../../examples/custom-op/", import.meta.url));
const center = fileURLToPath(new URL("fixtures/center.ts", import.meta.url));

const wrongOf = (findings: readonly Finding[]): string[] =>
  findings.flatMap(({ what, wrong }) => (wrong === null ? [] : [`${what}: ${wrong}`]));

test.each([
  ["cpu", undefined],
  ["cuda", simulatedCuda],
] as const)("an op with everything holds together on %s", async (target, on) => {
  const findings = await checkOps(center, target, undefined, on);
  expect(wrongOf(findings)).toEqual([]);
  const of = (op: string, sample: string) =>
    findings.filter((own) => own.op === op && own.sample.startsWith(sample)).map(({ what }) => what);
  expect(of("center", "f[2, 6, 7]")).toEqual([
    "eval gives what infer says",
    "the gradient is the slope of eval",
    "two ranks that share dimension 0 of x give what one gives",
    "two ranks that share dimension 1 of x give what one gives",
    `its ${target} kernel gives what eval gives in f32`,
    `its ${target} kernel gives what eval gives in bf16`,
  ]);
  expect(of("center_grad", "f[2, 6, 7]")).toHaveLength(5);
});

describe("is named", () => {
  /** The example's op under another name, with one thing changed in one of its files. */
  const changed = (name: string, extension: "ts" | "cc", from: string | RegExp, to: string): string => {
    const folder = join(scratch, name);
    mkdirSync(folder);
    for (const own of ["ts", "cc", "cu"]) {
      const text = readFileSync(join(example, `squared_relu.${own}`), "utf8");
      const written = own === extension ? text.replace(from, to) : text;
      if (own === extension) expect(written).not.toBe(text);
      writeFileSync(join(folder, `${name}.${own}`), written.replaceAll("squared_relu", name));
    }
    return join(folder, `${name}.ts`);
  };
  const kernel = "its cpu kernel gives what eval gives in";

  test.each([
    [
      "a kernel that is a little off",
      "cc",
      "(positive * positive)",
      "(1.001f * positive * positive)",
      [`${kernel} f32: result at [0,`, `${kernel} f32: result at [`],
    ],
    [
      "a kernel that forgets the end",
      "cc",
      "i < count",
      "i < count - 1",
      [`${kernel} f32: result at [1, 5, 7] is NaN, not 0`],
    ],
    [
      "a gradient",
      "ts",
      "by: 2",
      "by: 2.1",
      ["the gradient is the slope of eval: the gradient of %x is wrong"],
    ],
    [
      "infer",
      "ts",
      "sizesOf(x))]",
      "[1, ...sizesOf(x)])]",
      ["eval gives what infer says: result has 96 elements as [2, 6, 8], infer says [1, 2, 6, 8]"],
    ],
    [
      "an eval that gives no number",
      "ts",
      "Math.max(value, 0)",
      "Math.log(value)",
      ["eval gives what infer says: element"],
    ],
    [
      "a rule that frees what is whole",
      "ts",
      "Math.max(value, 0) ** 2",
      "value * x.data[x.data.length - 1]",
      ["two ranks that share dimension 0 of x give what one gives: result at"],
    ],
  ] as const)("%s", async (title, extension, from, to, expected) => {
    const file = changed(`wrong_${title.replaceAll(/\W+/g, "_")}`, extension, from, to);
    const wrong = wrongOf(await checkOps(file, "cpu"));
    for (const start of expected)
      expect(
        wrong.some((own) => own.startsWith(start)),
        wrong.join("\n"),
      ).toBe(true);
  });

  test("an op without samples", async () => {
    const file = changed("unsampled", "ts", /\n {2}samples: .*\n/, "\n");
    await expect(checkOps(file, "cpu")).rejects.toThrow("there are no samples of unsampled to check it with");
  });

  test("by an exit code", async () => {
    const file = changed("by_exit", "ts", "by: 2", "by: 2.1");
    const write = vi.spyOn(process.stdout, "write").mockImplementation(() => true);
    const code = await runCommandLine(["check-op", file, "--json"]);
    const [[json]] = write.mock.calls;
    write.mockRestore();
    expect(code).toBe(1);
    const { findings } = JSON.parse(String(json)) as { findings: readonly Finding[] };
    expect(wrongOf(findings)[0]).toContain("the gradient of %x is wrong");
  });
});
