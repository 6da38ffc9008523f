/** @file What is compiled again and what comes from the cache. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { makeOnce, place, prune } from "../../src/cache.ts";
import { compileAll } from "../../src/codegen/build.ts";
import type { Unit } from "../../src/codegen/targets.ts";
import { findToolchain } from "../../src/codegen/toolchain.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ithaca-build-"));
  vi.stubEnv("ITHACA_CACHE", join(folder, "cache"));
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

function unit(path: string, ...flags: string[]): Unit {
  return { path, flags: ["-std=c++20", ...flags], includeDirs: [folder] };
}

describe("compiling", () => {
  test("happens again when the source, a header it reaches or a flag changes, and only then", async () => {
    write("b.h", "inline int two() { return 2; }\n");
    write("a.h", '#pragma once\n#include "b.h"\n');
    write("other.h", "");
    const source = write("a.cc", "#include <a.h>\n#include <cstdint>\nint four() { return two() + 2; }\n");
    const toolchain = await findToolchain();
    let compiled = 0;
    const build = async (...flags: string[]) => {
      compiled = 0;
      const [object] = await compileAll(toolchain, [unit(source, ...flags)], undefined, (count) => {
        compiled = count;
      });
      return object;
    };
    const first = await build();
    expect(compiled).toBe(1);
    write("other.h", "int unrelated;\n");
    expect(await build()).toBe(first);
    expect(compiled).toBe(0);
    write("b.h", "inline int two() { return 1 + 1; }\n");
    expect(await build()).not.toBe(first);
    expect(compiled).toBe(1);
    await build("-O1");
    expect(compiled).toBe(1);
    write("b.h", "inline int two() { return 2; }\n");
    expect(await build()).toBe(first);
    expect(compiled).toBe(0);
  });

  test("shows the command and what the compiler said", async () => {
    const source = write("wrong.cc", "int f() { return undeclared; }\n");
    const building = compileAll(await findToolchain(), [unit(source)]);
    await expect(building).rejects.toThrow(
      /wrong\.cc can't be built\. The command was\n\n {2}\S*g\+\+.* -c /,
    );
    await expect(building).rejects.toThrow(/'undeclared' was not declared/);
    expect(readdirSync(join(folder, "cache/objects"))).toEqual([]);
  });

  test("passes warnings on", async () => {
    const source = write("odd.cc", "static int unused() { return 1; }\n");
    const reported: string[] = [];
    await compileAll(await findToolchain(), [unit(source, "-Wall")], (text) => reported.push(text));
    expect(reported.join("\n")).toContain("unused");
  });

  test("says which compiler is missing", async () => {
    vi.stubEnv("CXX", "no-such-compiler");
    await expect(findToolchain()).rejects.toMatchObject({
      message: `no C++ compiler: CXX is "no-such-compiler", which can't be run`,
      remedy: expect.stringMatching(/^Install one with (sudo )?apt-get install -y g\+\+, or set CXX /),
    });
  });
});

describe("a product of the cache", () => {
  test("is made once, however many ask for it", async () => {
    const product = join(folder, "products/one");
    let made = 0;
    const ask = () =>
      makeOnce(product, async (temporary) => {
        made += 1;
        await sleep(20);
        writeFileSync(temporary, "whole");
      });
    const answers = await Promise.all([ask(), ask(), ask(), ask()]);
    expect(made).toBe(1);
    expect(answers.filter((mine) => mine)).toHaveLength(1);
    expect(readFileSync(product, "utf8")).toBe("whole");
    expect(readdirSync(join(folder, "products"))).toEqual(["one"]);
  });

  test("is not there after its making failed, and can be made then", async () => {
    const product = join(folder, "products/one");
    const failing = makeOnce(product, async (temporary) => {
      writeFileSync(temporary, "half");
      throw new Error("no space");
    });
    await expect(failing).rejects.toThrow("no space");
    expect(readdirSync(join(folder, "products"))).toEqual([]);
    expect(await makeOnce(product, async (temporary) => writeFileSync(temporary, "whole"))).toBe(true);
  });

  test("is made in spite of a lock that a killed process left", async () => {
    const product = join(folder, "one");
    write("one.lock", "4194304999");
    expect(await makeOnce(product, async (temporary) => writeFileSync(temporary, "whole"))).toBe(true);
  });

  test("can be placed twice", async () => {
    const product = write("product", "1");
    await place(product, join(folder, "here"));
    await place(product, join(folder, "here"));
    expect(readdirSync(folder).sort()).toEqual(["here", "product"]);
    expect(statSync(join(folder, "here")).ino).toBe(statSync(product).ino);
  });

  test("is kept by prune while it is in use, however old the folder around it", async () => {
    const product = join(folder, "kept", "product");
    const make = (temporary: string) => writeFile(temporary, "made");
    await makeOnce(product, make);
    mkdirSync(join(folder, "unused"));
    const before = new Date(Date.now() - 2 * 3_600_000);
    for (const path of [product, dirname(product), join(folder, "unused")]) utimesSync(path, before, before);
    expect(await makeOnce(product, make)).toBe(false);
    await prune(folder, 0);
    expect(readdirSync(folder)).toEqual(["kept"]);
  });

  test("is kept by prune while it is new", async () => {
    write("a", "");
    write("b", "");
    await prune(folder, 1);
    expect(readdirSync(folder).sort()).toEqual(["a", "b"]);
  });
});
