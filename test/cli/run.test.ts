/** @file The command line from outside: exit codes, and what goes to which stream. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { select } from "../../src/cli/ir.ts";
import { explain } from "../../src/cli/output.ts";
import { runCommandLine } from "../../src/cli/run.ts";
import { BuildError } from "../../src/codegen/build.ts";
import { UserError } from "../../src/ir/error.ts";
import { captured } from "../support/command-line.ts";

const said = captured();
afterEach(() => void vi.unstubAllEnvs());

describe("arguments", () => {
  test("--help and --version are no errors", async () => {
    expect(await runCommandLine(["--version"])).toBe(0);
    expect(said.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(await runCommandLine(["train", "--help"])).toBe(0);
    expect(said.stdout).toContain("--set <key=value>");
  });

  test("unknown commands and options end with 2 and a suggestion", async () => {
    expect(await runCommandLine(["trian", "config.yaml"])).toBe(2);
    expect(said.stderr).toContain("unknown command 'trian'\n(Did you mean train?)");
    expect(await runCommandLine(["train", "config.yaml", "--sett", "a=1"])).toBe(2);
    expect(said.stderr).toContain("(Did you mean --set?)");
  });

  test("a file that isn't there", async () => {
    expect(await runCommandLine(["train", "none.yaml"])).toBe(1);
    expect(said.stderr).toBe(
      "none.yaml: there is no such file\n  Give the path of a configuration file, for example: ithaca train config.yaml\n",
    );
    expect(said.stdout).toBe("");
  });
});

describe("doctor", () => {
  test("--json prints one object", async () => {
    const exitCode = await runCommandLine(["doctor", "--json"]);
    const answer = JSON.parse(said.stdout);
    expect(exitCode).toBe(answer.ok ? 0 : 1);
    expect(answer.checks.map(({ name }: { name: string }) => name)).toContain("nlohmann-json3-dev");
  });

  test("fails without a compiler and says how to get one", async () => {
    vi.stubEnv("CXX", "no-such-compiler");
    expect(await runCommandLine(["doctor"])).toBe(1);
    expect(said.stdout).toMatch(
      /✗ C\+\+ compiler +not found {2}\((sudo )?apt-get install -y g\+\+ nlohmann-json3-dev\)/,
    );
    expect(said.stdout).toContain("The CPU target lacks C++ compiler.");
  });
});

describe("ir", () => {
  const stages = [
    { pass: "frontend", text: "a\nb\n" },
    { pass: "unroll", text: "a\nc\n" },
    { pass: "plan", text: "steps" },
  ];

  const asIs = (stage: (typeof stages)[number]) => stage;

  test("selects a stage", () => {
    expect(select(stages, undefined, false, asIs)).toEqual([stages[0]]);
    expect(select(stages, "plan", false, asIs)).toEqual([stages[2]]);
    expect(() => select(stages, "unrol", false, asIs)).toThrow(
      expect.objectContaining({
        message: 'there is no pass "unrol" on the way of this model',
        remedy: "Did you mean unroll?",
      }),
    );
  });

  test("shows what a pass changed", () => {
    const text = "--- after frontend\n+++ after unroll\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n";
    expect(select(stages, "unroll", true, asIs)).toEqual([{ pass: "unroll", text }]);
    expect(select(stages, undefined, true, asIs)).toEqual([{ pass: "unroll", text }]);
    expect(() => select([{ pass: "input", text: "" }, ...stages], "input", true, asIs)).toThrow(
      "the input is before all passes: there is nothing that changed it",
    );
  });
});

describe("errors", () => {
  test("of the user are shown as they are", () => {
    const error = new UserError("8 heads are too few", { location: "llama.ts:35", remedy: "Use more." });
    expect(explain(error)).toBe("llama.ts:35: 8 heads are too few\n  Use more.");
  });

  test("of the compiler point to doctor", () => {
    const text = explain(new BuildError("block.cc", "g++ -c block.cc", "block.cc:1: error"));
    expect(text).toMatch(
      /^block\.cc can't be built\. The command was\n\n {2}g\+\+ -c block\.cc\n\nand it said\n\nblock\.cc:1/,
    );
    expect(text).toContain('"ithaca doctor"');
  });

  test("of the file system name the place and another one to choose", () => {
    vi.stubEnv("ITHACA_CACHE", "/cache");
    const failure = (properties: object) => explain(Object.assign(new Error("refused"), properties));
    expect(failure({ code: "ENOSPC", syscall: "copyfile", path: "/a", dest: "/runs/train.12.3.tmp" })).toBe(
      "/runs/train: no space left on the device\n  Make room, or choose another place: output_dir in the configuration, or ITHACA_CACHE (now /cache) for what is kept from run to run.",
    );
    expect(failure({ code: "EROFS", syscall: "open", path: "/cache/x" })).toMatch(
      /^\/cache\/x: the file system is read-only\n {2}Choose another place: /,
    );
    expect(failure({ code: "ENOENT", syscall: "mkdir", path: "/cache" })).toMatch(
      /^\/cache: the folder can't be made/,
    );
    expect(failure({ code: "ENOENT", syscall: "open", path: "/a" })).toContain("internal error");
  });

  test("of ours say so", () => {
    const text = explain(new TypeError("x is undefined"));
    expect(text).toMatch(/^ithaca: internal error\nTypeError: x is undefined\n +at /);
    expect(text).toContain("This is a fault of Ithaca: please report it");
  });
});
