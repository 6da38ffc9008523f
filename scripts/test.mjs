/** @file `npm test`: sets up, then checks types, style and imports, runs the C++ tests and the TypeScript tests. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { browserPackages, hostPackages, mpiPackages, root, setUp } from "./setup.mjs";

setUp([...mpiPackages, ...hostPackages, ...browserPackages]);

const bin = (/** @type {string} */ name) => join(root, "node_modules/.bin", name);
const folder = mkdtempSync(join(tmpdir(), "ithaca-test-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

let passed = 0;
let failed = 0;

/**
 * Runs a program in the root of the repository; a `quiet` one shows what it wrote only if it failed.
 * @param {string} name @param {string} command @param {string[]} args
 * @returns {Promise<boolean>}
 */
function run(name, command, args, quiet = false) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      stdio: ["ignore", quiet ? "pipe" : 1, quiet ? "pipe" : 2],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (text) => (output += text));
    child.on("error", (error) => (output += `${error.message}\n`));
    child.on("close", (code) => {
      if (quiet) console.log(`${code === 0 ? "✓" : "✗"} ${name}`);
      if (quiet && code !== 0) process.stdout.write(output);
      resolve(code === 0);
    });
  });
}

/** Adds the counts that a run wrote to a file; a run that wrote none has failed as a whole. */
function count(
  /** @type {boolean} */ good,
  /** @type {string} */ file,
  /** @type {(json: any) => number[]} */ read,
) {
  try {
    const [good, bad] = read(JSON.parse(readFileSync(file, "utf8")));
    passed += good;
    failed += bad;
    if (bad > 0) return;
  } catch {
    good = false;
  }
  if (!good) failed += 1;
}

const checks = await Promise.all([
  run("types", bin("tsc"), ["-p", "tsconfig.test.json"], true),
  run("style", bin("biome"), ["check", "--error-on-warnings"], true),
  run("imports", bin("depcruise"), ["--config", ".dependency-cruiser.cjs", "src"], true),
]);
failed += checks.filter((good) => !good).length;

const cpp = join(folder, "cpp.json");
const cppGood = await run("C++ tests", process.execPath, [
  "--import",
  "tsx",
  "scripts/cpp-tests.ts",
  "--output",
  cpp,
]);
count(cppGood, cpp, (json) => [json.passed, json.failed]);

const vitest = join(folder, "vitest.json");
const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${vitest}`];
const vitestGood = await run("TypeScript tests", bin("vitest"), ["run", ...reporters]);
count(vitestGood, vitest, (json) => {
  // A file that can't be loaded has no tests to fail.
  const broken = json.testResults.filter(
    (/** @type {any} */ file) => file.status === "failed" && file.assertionResults.length === 0,
  );
  return [json.numPassedTests, json.numFailedTests + broken.length];
});

console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
