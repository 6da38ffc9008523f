/** @file How mpirun starts the ranks and what it says of them, in words of ours. */
import type { HostRanks } from "../config/hosts.ts";

/** Where the ranks of a job run, and what else its user has to say to mpirun. */
export interface MpiJob {
  readonly ranks: number;
  /** Null: this machine, or those of the batch system's allocation. */
  readonly hosts: readonly HostRanks[] | null;
  readonly args: readonly string[];
}

/** `mpirun ...` up to the program: also as root, with more ranks than cores, each free to use all of them. */
export function mpirunArguments({ ranks, hosts, args }: MpiJob): string[] {
  const yielding = ["--mca", "mpi_yield_when_idle", "1"];
  const all = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", ...yielding, "-np", `${ranks}`];
  const places = hosts?.map(({ host, ranks: own }) => `${host}:${own}`).join(",");
  return [...all, ...(places === undefined ? [] : ["--host", places]), ...args];
}

/** mpirun passes SIGUSR1 on, and itself ends the ranks at SIGINT and SIGTERM: the first signal asks, the second ends. */
export function mpirunSignal(signalsBefore: number): NodeJS.Signals {
  return signalsBefore === 0 ? "SIGUSR1" : "SIGTERM";
}

/** What mpirun and its daemons say outside of their boxes. */
const ownLine = /^mpirun: |^\[[^\]]+:\d+\] .*(ORTE|PMIX|OPAL|help message|MCA parameter|Read -1, expected)/;

/** Takes mpirun's own words out of what it and the ranks write to standard error. */
export class MpirunOutput {
  #rest = "";
  #isBlock = false;
  #said = "";

  /** What of `text` the ranks wrote, in whole lines. */
  add(text: string): string {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    return lines
      .filter((line) => this.#isOfRank(line))
      .map((line) => `${line}\n`)
      .join("");
  }

  /** The last line, which nothing ended. */
  end(): string {
    const rest = this.#rest;
    this.#rest = "";
    return rest !== "" && this.#isOfRank(rest) ? `${rest}\n` : "";
  }

  /** What mpirun says of a rank that was killed; undefined if none was. */
  get death(): string | undefined {
    const text = this.#said.replace(/\s+/g, " ");
    const death =
      /process rank (\d+) with PID \d+ on node (\S+) exited on signal (\d+)(?: \(([^)]*)\))?/.exec(text);
    if (!death) return undefined;
    const [, rank, node, signal, name] = death;
    const reason = signal === "9" ? ", most likely for want of memory (see dmesg)" : "";
    const how = signal === "9" ? "was killed" : `ended by signal ${signal}${name ? ` (${name})` : ""}`;
    return `rank ${rank} on ${node} ${how}${reason}; the other ranks were stopped`;
  }

  /** Whether ranks did not even start. */
  get couldNotStart(): boolean {
    return /unable to reliably start|daemon .*died|was unable to (launch|start)/i.test(
      this.#said.replace(/\s+/g, " "),
    );
  }

  /** All that mpirun said. */
  get said(): string {
    return this.#said;
  }

  #isOfRank(line: string): boolean {
    const isRule = /^-{60,}$/.test(line);
    const isOwn = isRule || this.#isBlock || ownLine.test(line);
    if (isRule) this.#isBlock = !this.#isBlock;
    else if (isOwn) this.#said += `${line}\n`;
    return !isOwn;
  }
}
