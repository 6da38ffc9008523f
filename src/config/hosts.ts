/** @file Which host runs how many ranks: the entries of parallel.hosts. */

/** Ranks are counted through the hosts in order: the first `ranks` of them run on the first one. */
export interface HostRanks {
  readonly host: string;
  readonly ranks: number;
}

/** What is wrong with a list of hosts, in numbers, and what to do. */
export interface HostsProblem {
  readonly message: string;
  readonly remedy: string;
}

/**
 * Shares `ranks` out between hosts: "node1:4" says how many itself; where no entry does, all take the same number.
 */
export function placeRanks(entries: readonly string[], ranks: number): readonly HostRanks[] | HostsProblem {
  const hosts = entries.map((entry) => {
    const [, host = entry, count] = /^(.*?)(?::(\d+))?$/.exec(entry) ?? [];
    return { host, ranks: count === undefined ? null : Number(count) };
  });
  const odd = hosts.find(({ host, ranks: own }) => !/^[\w.-]+$/.test(host) || own === 0);
  if (odd || hosts.length === 0) {
    const what = odd ? `"${entries[hosts.indexOf(odd)]}" is no host` : "the list of hosts is empty";
    return { message: what, remedy: "A host is a name or an address and its number of ranks: node1:4." };
  }
  const open = hosts.filter((entry) => entry.ranks === null);
  const sum = hosts.reduce((total, entry) => total + (entry.ranks ?? 0), 0);
  const each = ranks / hosts.length;
  const remedy = `parallel.sequence times parallel.data is ${ranks}: name so many ranks, such as ${suggestion(hosts, ranks)}.`;
  if (open.length === 0) {
    if (sum !== ranks) return { message: `the hosts have ${sum} ranks, the run has ${ranks}`, remedy };
    return hosts as HostRanks[];
  }
  if (open.length < hosts.length)
    return { message: `${open[0].host} has no number of ranks, and other hosts do`, remedy };
  if (!Number.isInteger(each))
    return { message: `${ranks} ranks can't be shared evenly by ${hosts.length} hosts`, remedy };
  return hosts.map(({ host }) => ({ host, ranks: each }));
}

/** The hosts with as even a share each as there is. */
function suggestion(hosts: readonly { readonly host: string }[], ranks: number): string {
  const share = (i: number) => Math.floor(ranks / hosts.length) + (i < ranks % hosts.length ? 1 : 0);
  return `[${hosts
    .map(({ host }, i) => ({ host, own: share(i) }))
    .filter(({ own }) => own > 0)
    .map(({ host, own }) => `${host}:${own}`)
    .join(", ")}]`;
}
