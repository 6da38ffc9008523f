/** @file Compiles generated sources together with the runtime: the `train` binary, program.so and the Node addon. */
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { cacheDir, makeOnce, place, prune, temporaryName, touch, writeWhole } from "../cache.ts";
import { UserError } from "../ir/error.ts";
import {
  type BuildTarget,
  buildTarget,
  loader,
  type OwnFile,
  type TargetName,
  type Unit,
} from "./targets.ts";
import {
  addonIncludeDirs,
  findToolchain,
  generatedFlags,
  includeDirs,
  type Mpi,
  packageRoot,
  requireHeader,
  requireMpi,
  runProcess,
  runtimeFlags,
  runtimeRoot,
  sha256,
  type Toolchain,
} from "./toolchain.ts";

/** A generated file; `path` is relative to the folder it is built in. */
export interface Source {
  readonly path: string;
  readonly text: string;
  /** The user's own file that it includes, and what to say where that doesn't compile. */
  readonly includes?: OwnFile;
}

export interface Program {
  /** Trains without Node: `train --run run.json`. */
  readonly train: string;
  /** The same program for `openProgram`. */
  readonly program: string;
}

/** Told what is being built, only when something is: a hit in the cache is silent. */
export type Report = (message: string) => void;

const silent: Report = () => {};

const trainEntry = join(runtimeRoot, "train", "main.cc");
const addonEntry = join(runtimeRoot, "binding", "addon.cc");

/** The compiler or linker failed. Generated code always compiles, so this is a fault of ours or of the set-up. */
export class BuildError extends Error {
  override name = "BuildError";
  readonly command: string;
  readonly output: string;

  constructor(what: string, command: string, output: string) {
    super(`${what} can't be built. The command was\n\n  ${command}\n\nand it said\n\n${output.trimEnd()}`);
    this.command = command;
    this.output = output;
  }
}

/**
 * Builds a program, its `train` with what `comm` needs. The sources and both products end in `outDir`; products come
 * from the cache when the same sources were built before with the same runtime, compiler and CPU. Throws BuildError
 * with the compiler's output, and UserError where a library is missing.
 */
export async function buildProgram(
  sources: readonly Source[],
  outDir: string,
  on: TargetName | BuildTarget,
  report: Report = silent,
  comm: "local" | "mpi" | "nccl" = "local",
): Promise<Program> {
  const toolchain = await findToolchain();
  const target = typeof on === "string" ? await buildTarget(on, comm === "nccl") : on;
  const mpi = comm === "mpi" ? await requireMpi() : undefined;
  const runtime = await runtimeLibrary(toolchain, report, target);
  const entry = [target.runtimeUnit(trainEntry), ...(mpi ? await mpiUnits(mpi) : [])];
  const nccl = comm === "nccl" ? await listUnits(join(runtimeRoot, "src/nccl")) : [];
  const main = await compileAll(toolchain, [...entry, ...nccl.map(target.runtimeUnit)], report);
  const mpiFlags = mpi?.linkFlags ?? [];
  const unitOf = ({ path, includes }: Source, folder: string): Unit =>
    includes
      ? { ...target.runtimeUnit(join(folder, path)), includes }
      : target.generatedUnit(join(folder, path), folder);
  const own = sources.filter(({ includes }) => includes !== undefined);
  const texts: Texts = new Map(own.map(({ path, text }) => [join(outDir, path), text]));
  const key = sha256(
    runtime,
    ...main,
    ...mpiFlags,
    ...target.generatedUnit("", "").flags,
    ...sources.flatMap(({ path, text }) => [path, text]),
    ...(await Promise.all(own.map((source) => unitKey(toolchain, unitOf(source, outDir), texts)))),
  );
  const product = join(cacheDir(), "programs", key);
  await makeOnce(product, async (temporary) => {
    report(`compiling the program (${sources.filter(({ path }) => isUnit(path)).length} files)`);
    await writeSources(sources, temporary);
    const units = sources.filter(({ path }) => isUnit(path)).map((source) => unitOf(source, temporary));
    const objects = await compileAll(toolchain, units, report);
    const linked = [...main, ...objects, runtime, ...mpiFlags];
    await link(toolchain, target, join(temporary, "train"), linked).catch(unlinked(own));
    // -Bsymbolic: the program's own runtime, not the one of the addon that loads it.
    const shared = ["-shared", "-Wl,-Bsymbolic", ...objects, runtime];
    await link(toolchain, target, join(temporary, "program.so"), shared);
  });
  await prune(dirname(product), 100);
  return deliver(sources, product, resolve(outDir));
}

/** Builds the Node addon that loads a program.so, and returns its path. */
export async function buildAddon(report: Report = silent): Promise<string> {
  const toolchain = await findToolchain();
  const runtime = await runtimeLibrary(toolchain, report, loader);
  const defines = ["-DNAPI_CPP_EXCEPTIONS", "-DNAPI_VERSION=8", "-DNODE_GYP_MODULE_NAME=ithaca"];
  const unit: Unit = {
    path: addonEntry,
    // The headers of node-addon-api are not clean under -Wpedantic.
    flags: [...generatedFlags, ...defines],
    includeDirs: [...includeDirs, ...addonIncludeDirs()],
  };
  const [object] = await compileAll(toolchain, [unit], report);
  const addon = join(cacheDir(), "addons", sha256(runtime, object as string), "ithaca.node");
  await makeOnce(addon, (temporary) =>
    link(toolchain, loader, temporary, ["-shared", "-Wl,-Bsymbolic", object as string, runtime]),
  );
  await prune(dirname(dirname(addon)), 8);
  return addon;
}

/** An executable that is linked with the runtime; one of the units has main(). */
export interface Executable {
  readonly name: string;
  readonly units: readonly Unit[];
  /** Of libraries besides the runtime's. */
  readonly linkFlags?: readonly string[];
}

/** Builds executables against the runtime, as its tests are, and returns their paths. */
export async function buildExecutables(
  executables: readonly Executable[],
  report: Report = silent,
  on: TargetName | BuildTarget = "cpu",
): Promise<string[]> {
  const toolchain = await findToolchain();
  const target = typeof on === "string" ? await buildTarget(on) : on;
  const runtime = await runtimeLibrary(toolchain, report, target);
  const objects = await compileAll(
    toolchain,
    executables.flatMap(({ units }) => units),
    report,
  );
  const folder = join(cacheDir(), "executables");
  const paths: string[] = [];
  for (const { name, units, linkFlags: libraries = [] } of executables) {
    const own = objects.splice(0, units.length);
    const path = join(folder, sha256(runtime, ...own, ...libraries), name);
    await makeOnce(path, (temporary) => link(toolchain, target, temporary, [...own, runtime, ...libraries]));
    paths.push(path);
  }
  await prune(folder, 100);
  return paths;
}

/** Everything of the runtime but the two entry points, as one static library. */
export async function runtimeLibrary(
  toolchain: Toolchain,
  report: Report = silent,
  given?: BuildTarget,
): Promise<string> {
  const target = given ?? (await buildTarget("cpu"));
  const folders = ["src/common", ...target.folders, "train", "binding"];
  const found = await Promise.all(folders.map((folder) => listUnits(resolve(runtimeRoot, folder))));
  const others = (target.without ?? []).map((file) => join(runtimeRoot, file));
  const files = found.flat().filter((file) => ![trainEntry, addonEntry, ...others].includes(file));
  const objects = await compileAll(toolchain, files.map(target.runtimeUnit), report, (toCompile) =>
    report(`compiling the runtime (${toCompile} of ${files.length} files; kept in ${cacheDir()})`),
  );
  const library = join(cacheDir(), "libraries", sha256(...objects), "libithaca.a");
  await makeOnce(library, async (temporary) => {
    await run("the runtime", "ar", ["rcs", temporary, ...objects]);
  });
  await prune(dirname(dirname(library)), 8);
  return library;
}

async function listUnits(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names
    .filter(isUnit)
    .sort()
    .map((name) => join(folder, name));
}

/** The files that speak MPI. Linked ahead of the runtime, they take the place of its train/no_mpi.cc. */
export async function mpiUnits({ version, compileFlags }: Mpi): Promise<Unit[]> {
  const files = await listUnits(join(runtimeRoot, "src/mpi"));
  return files.map((path) => ({
    path,
    flags: [...runtimeFlags, ...compileFlags],
    includeDirs,
    with: `Open MPI ${version}`,
  }));
}

function isUnit(path: string): boolean {
  return /\.(cc|cu)$/.test(path);
}

/**
 * Compiles what the cache doesn't have, as many at a time as there are cores; warnings go to `report`. Returns the
 * object files in the order of the units.
 */
export async function compileAll(
  toolchain: Toolchain,
  units: readonly Unit[],
  report: Report = silent,
  onMiss: (toCompile: number) => void = () => {},
): Promise<string[]> {
  const folder = join(cacheDir(), "objects");
  const texts: Texts = new Map();
  const objects = await Promise.all(
    units.map(async (unit) => join(folder, `${await unitKey(toolchain, unit, texts)}.o`)),
  );
  const present = await Promise.all(objects.map(touch));
  const missing = units.flatMap((unit, i) => (present[i] ? [] : [{ unit, object: objects[i] as string }]));
  if (missing.length === 0) return objects;

  await requireHeader(toolchain);
  onMiss(missing.length);
  const queue = missing[Symbol.iterator]();
  const workers = Array.from({ length: availableParallelism() }, async () => {
    for (const { unit, object } of queue) {
      await makeOnce(object, async (temporary) => {
        await compile(toolchain, unit, temporary, report);
        if (basename(object, ".o") !== (await unitKey(toolchain, unit, new Map()))) {
          throw new Error(`${unit.path} was changed while it was being compiled: build again`);
        }
      });
    }
  });
  await Promise.all(workers);
  await prune(folder, 1000);
  return objects;
}

async function compile(toolchain: Toolchain, unit: Unit, object: string, report: Report): Promise<void> {
  const includes = unit.includeDirs.map((folder) => `-I${folder}`);
  const own = unit.compiler ? [] : [`-ffile-prefix-map=${packageRoot}=`, ...toolchain.extraFlags];
  const flags = [...unit.flags, ...includes, ...own];
  const args = [...flags, "-c", unit.path, "-o", object];
  const name = basename(unit.path);
  const warnings = await run(name, unit.compiler ?? toolchain.compiler, args).catch((error: unknown) => {
    if (!(error instanceof BuildError) || !unit.includes) throw error;
    const { file, what, remedy } = unit.includes;
    const frame = error.output.trimEnd().replaceAll(`${dirname(unit.path)}/`, "");
    throw new UserError(what, { location: file, frame, remedy });
  });
  if (warnings !== "") report(warnings.trimEnd());
}

async function link(
  toolchain: Toolchain,
  target: BuildTarget,
  product: string,
  inputs: readonly string[],
): Promise<void> {
  const flags = [...toolchain.extraFlags, ...target.linkFlags, ...toolchain.extraLinkFlags];
  await run(basename(product), toolchain.compiler, ["-o", product, ...inputs, ...flags]);
}

/** Throws what the linker said of a program with kernels of the user's own as theirs to mend: ours are always there. */
function unlinked(sources: readonly Source[]): (error: unknown) => never {
  return (error) => {
    const [first] = sources;
    if (!(error instanceof BuildError) || !first?.includes) throw error;
    throw new UserError("the program with this kernel can't be linked", {
      location: first.includes.file,
      frame: error.output.trimEnd(),
      remedy:
        "Libraries that a kernel needs go into LDFLAGS, and functions of a header that several files include are inline.",
    });
  };
}

/** Runs a tool and returns what it wrote to standard error. */
async function run(what: string, command: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runProcess(command, args, { env: { ...process.env, LC_ALL: "C" } });
  if (code === 0) return stderr;
  throw new BuildError(what, [command, ...args].join(" "), stderr || stdout || `exit code ${code}`);
}

const includeLine = /^[ \t]*#[ \t]*include[ \t]*[<"]([^>"\n]+)[>"]/gm;

/** Files that have been read, undefined for those that aren't there. */
type Texts = Map<string, string | undefined>;

/** Hash of all that decides the object file: compiler, flags, the source and every header of ours it reaches. */
async function unitKey(toolchain: Toolchain, unit: Unit, texts: Texts): Promise<string> {
  const seen = new Set([unit.path]);
  const parts = [
    toolchain.identity,
    unit.compiler ?? "",
    ...unit.flags,
    ...toolchain.extraFlags,
    unit.with ?? "",
  ];
  for (const path of seen) {
    const text = await readCached(path, texts);
    if (text === undefined) throw new Error(`${path} does not exist: the package is incomplete`);
    parts.push(text);
    for (const [, name] of text.matchAll(includeLine)) {
      for (const folder of [dirname(path), ...unit.includeDirs]) {
        const header = resolve(folder, name as string);
        if (seen.has(header)) break;
        if ((await readCached(header, texts)) === undefined) continue;
        seen.add(header);
        break;
      }
    }
  }
  return sha256(...parts);
}

async function readCached(path: string, texts: Texts): Promise<string | undefined> {
  if (!texts.has(path)) texts.set(path, await readFile(path, "utf8").catch(() => undefined));
  return texts.get(path);
}

async function writeSources(sources: readonly Source[], folder: string): Promise<void> {
  for (const { path, text } of sources) {
    const file = join(folder, path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
  }
}

/** Puts sources and products into the user's folder and takes away sources that an earlier build left there. */
async function deliver(sources: readonly Source[], product: string, outDir: string): Promise<Program> {
  await mkdir(outDir, { recursive: true });
  const record = join(outDir, "sources.json");
  const before = await readFile(record, "utf8").then(JSON.parse, () => []);
  const now = sources.map(({ path }) => path);
  for (const path of Array.isArray(before) ? before : []) {
    if (typeof path === "string" && !now.includes(path) && !path.includes("..")) {
      await rm(join(outDir, path), { force: true });
    }
  }
  for (const path of now) {
    const file = join(outDir, path);
    await mkdir(dirname(file), { recursive: true });
    // A copy, not a link: a user may edit it, and the cache must not change.
    const temporary = temporaryName(file);
    await copyFile(join(product, path), temporary);
    await rename(temporary, file);
  }
  await writeWhole(record, JSON.stringify(now));
  const program = { train: join(outDir, "train"), program: join(outDir, "program.so") };
  await place(join(product, "train"), program.train);
  await place(join(product, "program.so"), program.program);
  return program;
}
