/**
 * @file The package as npm packs it, unpacked elsewhere: the pass and the op that docs/passes.md teaches type-check and run at
 * once.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
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

/** What TypeScript says of files, as it would in an editor there. */
function typeErrors(...files: string[]): string {
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const settings =
    "--noEmit --strict --module nodenext --target es2023 --skipLibCheck --allowImportingTsExtensions";
  const { stdout } = spawnSync(process.execPath, [tsc, ...settings.split(" "), ...files], {
    cwd: elsewhere,
    encoding: "utf8",
  });
  return stdout;
}

test("and its types are those of the package", () => {
  expect(typeErrors("relu-gate.ts")).toBe("");
}, 60_000);

test("an op of one's own, its model and its pass type-check, and its kernel trains", () => {
  const folder = join(elsewhere, "custom-op");
  cpSync(join(root, "examples/custom-op"), folder, { recursive: true });
  const names = ["squared_relu.ts", "use-squared-relu.ts", "model.ts"];
  expect(typeErrors(...names.map((name) => join(folder, name)))).toBe("");
  const main = join(elsewhere, "node_modules/ithaca/dist/cli/main.js");
  const data = join(root, "test/golden/tokens.bin");
  const set = [`data=${data}`, "output_dir=run", "max_steps=2"].flatMap((own) => ["--set", own]);
  const { status, stdout } = spawnSync(process.execPath, [main, "train", "custom-op/config.yaml", ...set], {
    cwd: elsewhere,
    encoding: "utf8",
  });
  expect(stdout).toContain("step 2/2");
  expect(status).toBe(0);
}, 180_000);
