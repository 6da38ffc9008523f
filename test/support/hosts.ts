/** @file Two hosts on one machine: network namespaces with an address and a host name each, joined by a cable. */
import { spawnSync } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Hosts {
  readonly addresses: readonly [string, string];
  /** What mpirun calls instead of ssh: `agent ADDRESS COMMAND`. */
  readonly agent: string;
  /** The command that runs `command` on the first host. */
  on(command: readonly string[]): readonly string[];
  remove(): void;
}

const addresses = ["10.77.0.1", "10.77.0.2"] as const;

/** Why there can't be such hosts here; else they are made, with the agent in `folder`. */
export function makeHosts(folder: string): Hosts | string {
  const names = [`ithaca-a${process.pid}`, `ithaca-b${process.pid}`] as const;
  const cables = [`ia${process.pid}`, `ib${process.pid}`] as const;
  const remove = () => {
    for (const name of names) spawnSync("ip", ["netns", "del", name]);
  };
  const run = (command: string): string | undefined => {
    const [program = "", ...args] = command.split(" ");
    const { status, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
    return status === 0 ? undefined : `${command}: ${error?.message ?? stderr.trim()}`;
  };
  const commands = [
    ...names.map((name) => `ip netns add ${name}`),
    `ip link add ${cables[0]} netns ${names[0]} type veth peer name ${cables[1]} netns ${names[1]}`,
    ...names.flatMap((name, i) => [
      `ip -n ${name} addr add ${addresses[i]}/24 dev ${cables[i]}`,
      `ip -n ${name} link set ${cables[i]} up`,
      `ip -n ${name} link set lo up`,
    ]),
    `ip netns exec ${names[0]} unshare -u hostname ${names[0]}`,
  ];
  for (const command of commands) {
    const problem = run(command);
    if (problem === undefined) continue;
    remove();
    return problem;
  }
  const agent = join(folder, "agent.sh");
  writeFileSync(
    agent,
    `#!/bin/bash
case $1 in ${addresses.map((address, i) => `${address}) host=${names[i]} ;;`).join(" ")} *) echo "agent: no route to $1" >&2; exit 255 ;; esac
shift
exec ip netns exec $host unshare -u bash -c "hostname $host; $*"
`,
  );
  chmodSync(agent, 0o755);
  return {
    addresses,
    agent,
    on: (command) => [
      ...["ip", "netns", "exec", names[0], "unshare", "-u", "bash", "-c"],
      `hostname ${names[0]}; exec "$@"`,
      "bash",
      ...command,
    ],
    remove,
  };
}
