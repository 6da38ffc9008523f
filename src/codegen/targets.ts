/** @file What a target's programs are built of: which parts of the runtime, compiled and linked how. */
import { dirname, join } from "node:path";
import { architectures, type Cuda, requireCuda } from "./cuda/toolchain.ts";
import { generatedFlags, includeDirs, linkFlags, runtimeFlags, runtimeRoot } from "./toolchain.ts";

export type TargetName = "cpu" | "cuda";

/** A file of the user's that a generated one includes: a mistake in it is theirs to mend. */
export interface OwnFile {
  readonly file: string;
  readonly what: string;
  readonly remedy: string;
}

/** One C++ or CUDA file and how it is compiled. */
export interface Unit {
  readonly path: string;
  readonly flags: readonly string[];
  readonly includeDirs: readonly string[];
  /** The version of what else decides the object, such as a library's headers. */
  readonly with?: string;
  /** In place of the C++ compiler. */
  readonly compiler?: string;
  readonly includes?: OwnFile;
}

/** How a target's files are compiled and its programs linked. */
export interface BuildTarget {
  /** Folders of runtime/ that its programs are linked with, besides what all targets share. */
  readonly folders: readonly string[];
  /** Files there that it has in another form. */
  readonly without?: readonly string[];
  runtimeUnit(path: string): Unit;
  generatedUnit(path: string, folder: string): Unit;
  /** Ends the line that links a program. */
  readonly linkFlags: readonly string[];
}

const cpu: BuildTarget = {
  folders: ["kernels/cpu"],
  runtimeUnit: (path) => ({ path, flags: runtimeFlags, includeDirs }),
  generatedUnit: (path, folder) => ({ path, flags: generatedFlags, includeDirs: [folder, ...includeDirs] }),
  linkFlags,
};

/** What loads programs of any target, and so holds no kernels. */
export const loader: BuildTarget = {
  ...cpu,
  folders: [],
};

/** The target as this machine can build it. Throws UserError where the toolkit or a library is missing. */
export async function buildTarget(name: TargetName, needsNccl = false): Promise<BuildTarget> {
  return name === "cpu" ? cpu : cudaTarget(await requireCuda(needsNccl), await architectures());
}

/** `architectures` as "90" for sm_90. */
export function cudaTarget(cuda: Cuda, architectures: readonly string[]): BuildTarget {
  const libraries = [cuda.cublasLt, cuda.cudnn, cuda.nccl].filter((library) => library !== undefined);
  // System headers, so that their warnings are not ours.
  const headers = [cuda.runtime, ...libraries].flatMap(({ include }) => ["-isystem", include]);
  const folders = [...includeDirs, join(runtimeRoot, "src")];
  const version = [cuda.version, ...libraries.map((library) => library.version)].join(" ");
  const unit = (path: string, flags: readonly string[], includes: readonly string[]): Unit =>
    path.endsWith(".cu")
      ? { path, flags: nvccFlags(architectures), includeDirs: includes, with: version, compiler: cuda.nvcc }
      : { path, flags: [...flags, ...headers], includeDirs: includes, with: version };
  return {
    folders: ["src/cuda", "kernels/cuda"],
    runtimeUnit: (path) => unit(path, runtimeFlags, folders),
    generatedUnit: (path, folder) => unit(path, generatedFlags, [folder, ...folders]),
    linkFlags: [
      ...linkFlags,
      cuda.runtime.file,
      ...libraries.flatMap(({ file }) => [file, `-Wl,-rpath,${dirname(file)}`]),
      "-lrt",
    ],
  };
}

/** Kernels are compiled for each architecture, and for the newest also as PTX, which later GPUs can run. */
export function nvccFlags(architectures: readonly string[]): readonly string[] {
  const newest = architectures[architectures.length - 1];
  return [
    "-std=c++20",
    "-O3",
    ...architectures.map((name) => `-gencode=arch=compute_${name},code=sm_${name}`),
    `-gencode=arch=compute_${newest},code=compute_${newest}`,
    "-Xcompiler=-fPIC,-fno-gnu-unique,-Wall,-Wextra",
  ];
}
