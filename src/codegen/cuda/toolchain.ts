/** @file Finds CUDA and its libraries: nvcc, cuBLASLt, cuDNN and NCCL, with their headers and versions. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { UserError } from "../../ir/error.ts";
import { runProcess } from "../toolchain.ts";

export interface CudaLibrary {
  /** Folder of the headers. */
  readonly include: string;
  /** The file to link with, such as libcudnn.so.9: wheels have no names without a version. */
  readonly file: string;
  /** "9.19.0", from the header. */
  readonly version: string;
}

export interface Cuda {
  /** The toolkit's folder. */
  readonly home: string;
  readonly nvcc: string;
  /** "13.0". */
  readonly version: string;
  readonly runtime: { readonly include: string; readonly file: string };
  readonly cublasLt: CudaLibrary | undefined;
  readonly cudnn: CudaLibrary | undefined;
  readonly nccl: CudaLibrary | undefined;
}

/** A library, where a user may say it is, and how its version stands in a header. */
interface Wanted {
  readonly variables: readonly string[];
  /** Names of the folder in nvidia's wheels. */
  readonly wheels: readonly string[];
  readonly header: string;
  readonly library: RegExp;
  /** The header with the version, and its macros. */
  readonly versionHeader: string;
  readonly macros: readonly string[];
}

/** What is looked for besides the toolkit. */
export const wanted = {
  cublasLt: {
    variables: ["CUBLAS_HOME", "CUDA_HOME"],
    wheels: ["cu13", "cu12", "cublas"],
    header: "cublasLt.h",
    library: /^libcublasLt\.so(\.\d+)?$/,
    versionHeader: "cublas_api.h",
    macros: ["CUBLAS_VER_MAJOR", "CUBLAS_VER_MINOR", "CUBLAS_VER_PATCH"],
  },
  cudnn: {
    variables: ["CUDNN_HOME"],
    wheels: ["cudnn"],
    header: "cudnn_graph.h",
    library: /^libcudnn\.so(\.\d+)?$/,
    versionHeader: "cudnn_version.h",
    macros: ["CUDNN_MAJOR", "CUDNN_MINOR", "CUDNN_PATCHLEVEL"],
  },
  nccl: {
    variables: ["NCCL_HOME"],
    wheels: ["nccl"],
    header: "nccl.h",
    library: /^libnccl\.so(\.\d+)?$/,
    versionHeader: "nccl.h",
    macros: ["NCCL_MAJOR", "NCCL_MINOR", "NCCL_PATCH"],
  },
} as const satisfies Record<string, Wanted>;

const variables = [
  "CUDA_HOME",
  "NCCL_HOME",
  "CUDNN_HOME",
  "CUBLAS_HOME",
  "CONDA_PREFIX",
  "PYTHONPATH",
  "PATH",
];
const found = new Map<string, Promise<Cuda | undefined>>();

/**
 * Looks in CUDA_HOME, CUDNN_HOME, NCCL_HOME, CUBLAS_HOME, beside the nvcc of PATH, in the toolkit's default place, the
 * system's folders, the wheels of pip and in conda; undefined where there is no nvcc. Asked once per environment.
 */
export function findCuda(): Promise<Cuda | undefined> {
  const key = variables.map((name) => process.env[name]).join("\0");
  let cuda = found.get(key);
  if (!cuda) {
    cuda = probe();
    found.set(key, cuda);
  }
  return cuda;
}

/** CUDA with the libraries that every program links with. Throws UserError that says what is missing. */
export async function requireCuda(needsNccl = false): Promise<Cuda> {
  const cuda = await findCuda();
  if (!cuda) {
    throw new UserError("target is cuda, and nvcc isn't found in CUDA_HOME, PATH or /usr/local/cuda", {
      remedy: "Install the CUDA toolkit 12.8 or later (or set CUDA_HOME), or use target: cpu.",
    });
  }
  const lacking = (["cublasLt", "cudnn", ...(needsNccl ? (["nccl"] as const) : [])] as const).filter(
    (name) => !cuda[name],
  );
  if (lacking.length === 0) return cuda;
  const { names, remedy } = missing(lacking);
  throw new UserError(`target is cuda, and ${names} isn't found`, { remedy });
}

/** What libraries are called, and how to get them. */
export function missing(lacking: readonly (keyof typeof wanted)[]): { names: string; remedy: string } {
  const title = { cublasLt: "cuBLASLt", cudnn: "cuDNN", nccl: "NCCL" };
  const wheel = { cublasLt: "nvidia-cublas", cudnn: "nvidia-cudnn-cu13", nccl: "nvidia-nccl-cu13" };
  const homes = lacking.map((name) => wanted[name].variables[0]).join(", ");
  return {
    names: lacking.map((name) => title[name]).join(" and "),
    remedy: `Install with pip install ${lacking.map((name) => wheel[name]).join(" ")}, or set ${homes} to where include/ and lib/ are.`,
  };
}

async function probe(): Promise<Cuda | undefined> {
  const homes = [process.env.CUDA_HOME, ...toolkitsInPath(), "/usr/local/cuda", "/opt/cuda"];
  // An nvcc without headers beside it is a wrapper that stands in PATH.
  const runtimeOf = (folder: string) => look([folder], "cuda_runtime_api.h", /^libcudart_static\.a$/);
  const home = homes.find((folder) => folder && existsSync(join(folder, "bin/nvcc")) && runtimeOf(folder));
  const runtime = home ? runtimeOf(home) : undefined;
  if (home === undefined || !runtime) return undefined;
  const nvcc = join(home, "bin/nvcc");
  const said = await runProcess(nvcc, ["--version"]).catch(() => undefined);
  const version = /release (\d+\.\d+)/.exec(said?.stdout ?? "")?.[1];
  if (version === undefined) return undefined;
  const wheels = wheelFolders();
  const find = (what: Wanted) => findLibrary(what, home, wheels);
  return {
    home,
    nvcc,
    version,
    runtime,
    cublasLt: find(wanted.cublasLt),
    cudnn: find(wanted.cudnn),
    nccl: find(wanted.nccl),
  };
}

function toolkitsInPath(): string[] {
  const folders = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.filter((folder) => existsSync(join(folder, "nvcc"))).map(dirname);
}

/** The nvidia folders of Python's site-packages, virtual environments and PYTHONPATH first. */
function wheelFolders(): string[] {
  const pythons = [
    ...toolkitParents(process.env.VIRTUAL_ENV),
    ...toolkitParents(process.env.CONDA_PREFIX),
    ...(process.env.PATH ?? "").split(delimiter).flatMap((folder) => toolkitParents(dirname(folder))),
    ...toolkitParents("/usr/local"),
    ...toolkitParents("/usr"),
    ...toolkitParents(join(homedir(), ".local")),
  ];
  const packages = [...(process.env.PYTHONPATH ?? "").split(delimiter).filter(Boolean), ...pythons];
  return [...new Set(packages)].map((folder) => join(folder, "nvidia")).filter(existsSync);
}

function toolkitParents(prefix: string | undefined): string[] {
  if (prefix === undefined || prefix === "" || prefix === ".") return [];
  const lib = join(prefix, "lib");
  const versions = listing(lib).filter((name) => /^python3(\.\d+)?$/.test(name));
  return versions.flatMap((name) => ["site-packages", "dist-packages"].map((kind) => join(lib, name, kind)));
}

function listing(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function findLibrary(what: Wanted, home: string, wheels: readonly string[]): CudaLibrary | undefined {
  const prefixes = [
    ...what.variables.map((name) => process.env[name]),
    home,
    "/usr",
    "/usr/local",
    ...wheels.flatMap((folder) => what.wheels.map((name) => join(folder, name))),
    process.env.CONDA_PREFIX,
  ];
  const place = look(prefixes, what.header, what.library);
  if (!place) return undefined;
  const header = readFileSync(join(place.include, what.versionHeader), "utf8");
  const numbers = what.macros.map((name) => new RegExp(`#define\\s+${name}\\s+(\\d+)`).exec(header)?.[1]);
  return { ...place, version: numbers.filter((number) => number !== undefined).join(".") };
}

/** The first prefix that has both a header and a library. */
function look(
  prefixes: readonly (string | undefined)[],
  header: string,
  library: RegExp,
): { include: string; file: string } | undefined {
  for (const prefix of prefixes) {
    if (prefix === undefined) continue;
    const include = ["include", "targets/x86_64-linux/include", "include/x86_64-linux-gnu"]
      .map((folder) => join(prefix, folder))
      .find((folder) => existsSync(join(folder, header)));
    if (include === undefined) continue;
    for (const folder of ["lib64", "lib", "lib/x86_64-linux-gnu", "targets/x86_64-linux/lib"]) {
      const names = listing(join(prefix, folder)).filter((name) => library.test(name));
      const name = names.sort()[0];
      if (name !== undefined) return { include, file: join(prefix, folder, name) };
    }
  }
  return undefined;
}

/** The architectures that kernels are compiled for: those of this machine's GPUs, else all that are supported. */
export async function architectures(): Promise<readonly string[]> {
  const asked = process.env.ITHACA_CUDA_ARCHITECTURES;
  if (asked) return asked.split(/[,; ]+/).filter((name) => name !== "");
  const gpus = await runProcess("nvidia-smi", ["--query-gpu=compute_cap", "--format=csv,noheader"]).catch(
    () => undefined,
  );
  const own =
    gpus?.code === 0 ? (gpus.stdout.match(/\d+\.\d+/g) ?? []).map((text) => text.replace(".", "")) : [];
  return own.length > 0 ? [...new Set(own)].sort() : supportedArchitectures;
}

export const supportedArchitectures: readonly string[] = ["80", "90", "100"];
