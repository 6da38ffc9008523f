/** @file Finds out that a launcher waits for processes that have all ended: Open MPI's mpirun can, when ranks abort together. */
import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

const lookEveryMs = 500;
/** A launcher that is well takes in a moment what has ended. */
const patienceMs = 3000;

/** Whether a process has children, and all of them have ended without its taking notice. */
export function hasOnlyDeadChildren(pid: number): boolean {
  const states = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(stateAndParent)
    .filter((process) => process?.parent === pid);
  return states.length > 0 && states.every((process) => process?.state === "Z");
}

/** Of /proc/PID/stat: what follows the name, which may hold anything but ends with the last parenthesis. */
function stateAndParent(pid: string): { state: string; parent: number } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [state = "", parent] = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { state, parent: Number(parent) };
  } catch {
    return undefined; // it has just ended
  }
}

/** Kills a launcher that is left with the dead. `happened` says whether that was so. */
export function endIfAbandoned(launcher: ChildProcess): { readonly happened: boolean; stop(): void } {
  let since: number | undefined;
  let happened = false;
  const timer = setInterval(() => {
    if (launcher.pid === undefined || !hasOnlyDeadChildren(launcher.pid)) since = undefined;
    else since ??= performance.now();
    if (since === undefined || performance.now() - since < patienceMs) return;
    happened = true;
    launcher.kill("SIGKILL");
  }, lookEveryMs);
  return {
    get happened() {
      return happened;
    },
    stop: () => clearInterval(timer),
  };
}
