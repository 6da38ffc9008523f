/** @file Gets a fresh machine ready: npm packages at their locked versions, and the system packages that C++ needs. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * What may have to be installed: Debian's package, how to see that it is there, and what it is for.
 * @typedef {{ apt: string, what: string, isThere: () => boolean }} SystemPackage
 */

/** @type {SystemPackage[]} */
const compilerPackages = [
  { apt: "g++", what: "the C++ compiler", isThere: () => succeeds(process.env.CXX || "g++", ["--version"]) },
  { apt: "nlohmann-json3-dev", what: "JSON for C++", isThere: () => hasHeader("nlohmann/json.hpp") },
];

/** @type {SystemPackage[]} */
export const biblePackages = [
  {
    apt: "bible-kjv",
    what: "the text that the demo trains on",
    isThere: () => succeeds("bible", ["-f", "gen1:1"]),
  },
];

/** @type {SystemPackage[]} */
export const mpiPackages = [
  { apt: "openmpi-bin", what: "mpirun", isThere: () => succeeds("mpirun", ["--version"]) },
  {
    apt: "libopenmpi-dev",
    what: "Open MPI, for programs",
    isThere: () => succeeds("mpicc", ["--showme:compile"]),
  },
];

/** @type {SystemPackage[]} */
export const hostPackages = [
  {
    apt: "iproute2",
    what: "ip, for tests on two hosts that are network namespaces",
    isThere: () => succeeds("ip", ["-V"]),
  },
];

/** @type {SystemPackage[]} */
export const browserPackages = [
  {
    apt: "chromium",
    what: "the browser that the viewer is tested in",
    isThere: () => succeeds("chromium", ["--version"]),
  },
];

/**
 * Installs what is missing; says what it does, and nothing if all is there. Ends the process with 1 where it can't.
 * @param {SystemPackage[]} morePackages
 */
export function setUp(morePackages = []) {
  if (Number(process.versions.node.split(".")[0]) < 20) {
    stop(`Node ${process.versions.node} is too old: install Node 20 or later (https://nodejs.org)`);
  }
  installNpmPackages();
  const missing = [...compilerPackages, ...morePackages].filter(({ isThere }) => !isThere());
  if (missing.length > 0) installSystemPackages(missing);
}

function installNpmPackages() {
  const reason = staleReason();
  if (reason === undefined) return;
  console.error(`installing npm packages: ${reason}`);
  const npm = (/** @type {string[]} */ ...args) =>
    spawnSync("npm", [...args, "--no-audit", "--no-fund"], {
      cwd: root,
      stdio: ["ignore", 2, "pipe"],
      encoding: "utf8",
    });
  const ci = npm("ci");
  // `npm ci` refuses a lock that lacks optional builds for other systems, as one written behind a mirror does.
  const last = ci.status === 0 || !ci.stderr?.includes("EUSAGE") ? ci : npm("install", "--no-save");
  if (last.status !== 0)
    stop(`${last.stderr ?? last.error}\nnpm can't install the packages; it needs a network`);
}

/** Compiles src/ to dist/, which `npx ithaca` runs, unless that has been done since src/ was last changed. */
export function buildIfStale() {
  const built = statSync(join(root, "dist/cli/main.js"), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" });
  if (sources.every((name) => statSync(join(root, "src", name)).mtimeMs <= built)) return;
  console.error("compiling src/ to dist/");
  // Files whose source is gone would stay otherwise.
  rmSync(join(root, "dist"), { recursive: true, force: true });
  const { status } = spawnSync("npm", ["run", "--silent", "build"], { cwd: root, stdio: ["ignore", 2, 2] });
  if (status !== 0) stop("npm run build failed");
}

/** Why node_modules is not what package-lock.json says; undefined if it is. */
function staleReason() {
  const installedFile = join(root, "node_modules/.package-lock.json");
  if (!existsSync(installedFile)) return "there are none yet";
  const wanted = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
  const installed = JSON.parse(readFileSync(installedFile, "utf8")).packages;
  for (const [path, entry] of Object.entries(wanted)) {
    // Optional ones are builds for other systems.
    if (path === "" || (entry.optional && !installed[path])) continue;
    if (installed[path]?.version !== entry.version || !existsSync(join(root, path))) {
      return `${path.replace(/^.*node_modules\//, "")} must be ${entry.version}`;
    }
  }
  return undefined;
}

/** @param {SystemPackage[]} missing */
function installSystemPackages(missing) {
  const names = missing.map(({ apt }) => apt);
  console.error(`missing: ${missing.map(({ apt, what }) => `${apt} (${what})`).join(", ")}`);
  const isRoot = process.getuid?.() === 0;
  const canSudo = !isRoot && succeeds("sudo", ["-n", "true"]);
  if (!succeeds("apt-get", ["--version"]) || (!isRoot && !canSudo)) {
    stop(
      `install ${names.join(", ")} and run this again; on Debian and Ubuntu:\n  sudo apt-get install -y ${names.join(" ")}`,
    );
  }
  const command = isRoot ? ["apt-get"] : ["sudo", "apt-get"];
  const apt = (/** @type {string[]} */ ...args) => {
    const [program, ...before] = command;
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    return spawnSync(program, [...before, ...args], { stdio: ["ignore", 2, 2], env }).status === 0;
  };
  const install = () => apt("install", "-y", "--no-install-recommends", "-qq", ...names);
  // The package lists of a fresh machine are empty or old.
  if (!install() && !(apt("update", "-qq") && install())) {
    stop(`apt-get can't install ${names.join(", ")}; install them by hand and run this again`);
  }
}

/** @param {string} header */
function hasHeader(header) {
  const input = `#if !__has_include(<${header}>)\n#error\n#endif\n`;
  const flags = (process.env.CXXFLAGS ?? "").split(/\s+/).filter((flag) => flag !== "");
  const { status } = spawnSync(process.env.CXX || "g++", [...flags, "-E", "-x", "c++", "-"], { input });
  return status === 0;
}

/** @param {string} command @param {string[]} args */
function succeeds(command, args) {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

/** @param {string} message @returns {never} */
export function stop(message) {
  console.error(message);
  process.exit(1);
}
