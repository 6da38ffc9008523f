/** @file The package as npm packs it, unpacked elsewhere: the pass that docs/passes.md teaches type-checks and runs at once. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = fileURLToPath(new URL("../", import.meta.url));
const elsewhere = mkdtempSync(join(tmpdir(), "ithaca-package-"));
afterAll(() => rmSync(elsewhere, { recursive: true, force: true }));

const graph = `graph g {
  input %x : f32[1, 8, 4]
  %y = swiglu %x, %x : f32[1, 8, 4]
  return y = %y
}
`;

beforeAll(() => {
  const npm = (args: string[]) =>
    execFileSync("npm", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  npm(["run", "build"]);
  const [{ filename }] = JSON.parse(
    npm(["pack", "--ignore-scripts", "--json", "--pack-destination", elsewhere]),
  );
  const modules = join(elsewhere, "node_modules");
  mkdirSync(modules);
  execFileSync("tar", ["-xzf", join(elsewhere, filename), "-C", modules]);
  execFileSync("mv", [join(modules, "package"), join(modules, "ithaca")]);
  // Its dependencies, as an installation would have put them there.
  symlinkSync(join(root, "node_modules"), join(modules, "ithaca/node_modules"));
  const page = readFileSync(join(root, "docs/passes.md"), "utf8");
  writeFileSync(join(elsewhere, "relu-gate.ts"), /```ts\n(.*?)```/s.exec(page)?.[1] as string);
  writeFileSync(join(elsewhere, "graph.ir"), graph);
  writeFileSync(join(elsewhere, "package.json"), '{ "type": "module" }');
}, 180_000);

test("a pass written from the page runs on the first try", () => {
  const main = join(elsewhere, "node_modules/ithaca/dist/cli/main.js");
  const args = ["opt", "graph.ir", "--load", "relu-gate.ts", "--passes", "relu-gate by=2", "--check"];
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    cwd: elsewhere,
    encoding: "utf8",
  });
  expect(stderr).toContain("relu-gate: 1 results");
  expect(status).toBe(0);
  expect(stdout).toContain("scale %x by=2");
});

test("and its types are those of the package", () => {
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const args = [
    "--noEmit",
    "--strict",
    "--module",
    "nodenext",
    "--target",
    "es2023",
    "--skipLibCheck",
    "relu-gate.ts",
  ];
  const { stdout } = spawnSync(process.execPath, [tsc, ...args], { cwd: elsewhere, encoding: "utf8" });
  expect(stdout).toBe("");
}, 60_000);
