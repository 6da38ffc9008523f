/** @file The C++ compiler of this machine, the flags Ithaca compiles with, and the cache where products are kept. */
import { type SpawnOptions, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { UserError } from "../ir/error.ts";

/** The folder of package.json, the same seen from src/ and from dist/. */
export const packageRoot = fileURLToPath(new URL("../../", import.meta.url));

/** Where the C++ of the runtime is, shipped with the package. */
export const runtimeRoot = join(packageRoot, "runtime");

export const includeDirs: readonly string[] = [join(runtimeRoot, "include"), join(runtimeRoot, "kernels")];

/**
 * Flags of every C++ file. No -ffast-math: NaN and infinities must come through. -fno-gnu-unique, because a
 * unique symbol is shared between libraries that were loaded apart, and keeps them from being unloaded.
 */
const commonFlags = [
  "-std=c++20",
  "-march=native",
  "-ffp-contract=fast",
  "-fno-math-errno",
  "-fno-trapping-math",
  "-fopenmp",
  "-fPIC",
  "-fno-gnu-unique",
];

/** -Wno-restrict: g++ 12 sees overlaps in its own std::string that aren't there (GCC bug 105651). */
export const runtimeFlags: readonly string[] = [
  ...commonFlags,
  "-O3",
  "-Wall",
  "-Wextra",
  "-Wpedantic",
  "-Wno-restrict",
];

/** Generated code is calls and short loops, which mark their own vectorisation; -O3 only costs compile time. */
export const generatedFlags: readonly string[] = [...commonFlags, "-O2"];

export const linkFlags: readonly string[] = ["-fopenmp", "-Wl,--as-needed", "-ldl", "-lpthread"];

/** A usable compiler. `identity` changes whenever the same source could give another object file. */
export interface Toolchain {
  readonly compiler: string;
  /** First line of `--version`. */
  readonly version: string;
  readonly identity: string;
  /** From CXXFLAGS and LDFLAGS, after ours, so that they win. */
  readonly extraFlags: readonly string[];
  readonly extraLinkFlags: readonly string[];
}

export interface ProcessResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end and returns what it wrote. Rejects only if it can't be started. */
export function runProcess(
  command: string,
  args: readonly string[],
  options: SpawnOptions & { readonly input?: string } = {},
): Promise<ProcessResult> {
  const { input, ...spawnOptions } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...spawnOptions, stdio: ["pipe", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 1, stdout, stderr }));
    // A compiler that fails early closes its input before all of it is written.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input ?? "");
  });
}

export function sha256(...parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part).update("\0");
  return hash.digest("hex").slice(0, 32);
}

const found = new Map<string, Promise<Toolchain>>();

/** Finds the compiler: $CXX, else g++. Asked once per process and environment. */
export function findToolchain(): Promise<Toolchain> {
  const key = [process.env.CXX, process.env.CXXFLAGS, process.env.LDFLAGS].join("\0");
  let toolchain = found.get(key);
  if (!toolchain) {
    toolchain = probe();
    found.set(key, toolchain);
  }
  return toolchain;
}

async function probe(): Promise<Toolchain> {
  const compiler = process.env.CXX || "g++";
  const [version, target] = await Promise.all([
    runProcess(compiler, ["--version"]).catch(() => undefined),
    // What -march=native stands for, so that objects made for another CPU are never reused.
    runProcess(compiler, ["-march=native", "-Q", "--help=target"]).catch(() => undefined),
  ]);
  if (version?.code !== 0) {
    throw new UserError(
      `no C++ compiler: ${process.env.CXX ? `CXX is "${compiler}", which` : `"${compiler}"`} can't be run`,
      { remedy: `Install one with ${installCommand("g++")}, or set CXX to a g++ of version 11 or later.` },
    );
  }
  const native = target?.code === 0 ? target.stdout : readCpuFlags();
  return {
    compiler,
    version: version.stdout.split("\n", 1)[0] ?? "",
    identity: sha256(version.stdout, native),
    extraFlags: words(process.env.CXXFLAGS),
    extraLinkFlags: words(process.env.LDFLAGS),
  };
}

function words(text: string | undefined): string[] {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}

/** The CPU's feature flags as Linux lists them, or "" elsewhere. */
export function readCpuFlags(): string {
  if (!existsSync("/proc/cpuinfo")) return "";
  return /^(?:flags|Features)\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
}

/** The header that every program includes, and the Debian package that brings it. */
export const neededHeader = {
  header: "nlohmann/json.hpp",
  apt: "nlohmann-json3-dev",
  what: "JSON for Modern C++",
} as const;

/** Whether the compiler finds it. */
export async function hasNeededHeader(toolchain: Toolchain): Promise<boolean> {
  const flags = [...toolchain.extraFlags, "-E", "-P", "-x", "c++", "-"];
  const input = `#if __has_include(<${neededHeader.header}>)\nfound\n#endif\n`;
  return (await runProcess(toolchain.compiler, flags, { input })).stdout.includes("found");
}

/** Throws unless it does. */
export async function requireHeader(toolchain: Toolchain): Promise<void> {
  if (await hasNeededHeader(toolchain)) return;
  const { header, what, apt } = neededHeader;
  throw new UserError(`the C++ compiler doesn't find <${header}> (${what})`, {
    remedy: `Install it with ${installCommand(apt)}`,
  });
}

/** Open MPI as it is installed. */
export interface Mpi {
  /** "4.1.4". */
  readonly version: string;
  readonly compileFlags: readonly string[];
  readonly linkFlags: readonly string[];
}

/** The Debian packages of Open MPI: mpirun, and what programs are built with. */
export const mpiPackages = ["openmpi-bin", "libopenmpi-dev"] as const;

/** Asks Open MPI's own compiler wrapper how it compiles and links; undefined where mpicc or mpirun isn't there. */
export async function findMpi(): Promise<Mpi | undefined> {
  const ask = (command: string, option: string) => runProcess(command, [option]).catch(() => undefined);
  const [compile, link, mpirun] = await Promise.all([
    ask("mpicc", "--showme:compile"),
    ask("mpicc", "--showme:link"),
    ask("mpirun", "--version"),
  ]);
  // Other MPIs have neither the option nor the name.
  const version = /Open MPI\) (\S+)/.exec(mpirun?.stdout ?? "")?.[1];
  if (compile?.code !== 0 || link?.code !== 0 || version === undefined) return undefined;
  return {
    version,
    // System headers, so that their warnings are not ours; the C++ bindings are deprecated and not used.
    compileFlags: [
      "-DOMPI_SKIP_MPICXX",
      ...words(compile.stdout).map((flag) => flag.replace(/^-I/, "-isystem")),
    ],
    linkFlags: words(link.stdout),
  };
}

/** Throws unless Open MPI is there. */
export async function requireMpi(): Promise<Mpi> {
  const mpi = await findMpi();
  if (mpi) return mpi;
  throw new UserError("parallel.comm is mpi, and Open MPI (mpirun and mpicc) isn't found", {
    remedy: `Install it with ${installCommand(...mpiPackages)}, or use parallel.comm: local.`,
  });
}

/** The command that installs Debian packages, as this user would type it. */
export function installCommand(...packages: readonly string[]): string {
  const sudo = process.getuid?.() === 0 ? "" : "sudo ";
  return `${sudo}apt-get install -y ${packages.join(" ")}`;
}

/** Include folders of the packages from npm that the addon is built against. */
export function addonIncludeDirs(): string[] {
  const require = createRequire(import.meta.url);
  return [
    dirname(require.resolve("node-addon-api/package.json")),
    join(dirname(require.resolve("node-api-headers/package.json")), "include"),
  ];
}
