/** @file mpirun's own words are taken out of what the ranks write, and its report of a death is put in ours. */
import { expect, test } from "vitest";
import { MpirunOutput, mpirunArguments, mpirunSignal } from "../../src/launch/mpirun.ts";

const rule = "-".repeat(74);

test("what the ranks write comes through, in whole lines", () => {
  const output = new MpirunOutput();
  const texts = [
    "ithaca: war",
    `ning\n${rule}\nPrimary job  terminated normally, but 1 process returned\n`,
    `a non-zero exit code.\n${rule}\nmpirun: Forwarding signal 10 to job\n`,
    "[vm:23654] 2 more processes have sent help message help-mpi-api.txt / mpi-abort\n--- mine\nthe last",
  ];
  expect(texts.map((text) => output.add(text)).join("|")).toBe("|ithaca: warning\n||--- mine\n");
  expect(output.end()).toBe("the last\n");
  expect(output.end()).toBe("");
  expect(output.death).toBeUndefined();
  expect(output.said).toContain("Primary job");
});

test.each([
  [
    "9 (Killed)",
    "rank 1 on vm was killed, most likely for want of memory (see dmesg); the other ranks were stopped",
  ],
  [
    "11 (Segmentation fault)",
    "rank 1 on vm ended by signal 11 (Segmentation fault); the other ranks were stopped",
  ],
])("a death by signal %s", (signal, expected) => {
  const output = new MpirunOutput();
  output.add(
    `${rule}\nmpirun noticed that process rank 1 with PID 0 on node vm exited\non signal ${signal}.\n${rule}\n`,
  );
  expect(output.death).toBe(expected);
});

test("the first signal asks, the second ends", () => {
  expect([0, 1, 2].map(mpirunSignal)).toEqual(["SIGUSR1", "SIGTERM", "SIGTERM"]);
});

test("hosts and the user's own arguments stand ahead of the program", () => {
  const hosts = [
    { host: "node1", ranks: 3 },
    { host: "10.0.0.2", ranks: 1 },
  ];
  const args = mpirunArguments({ ranks: 4, hosts, args: ["--mca", "btl_tcp_if_include", "eth0"] });
  expect(args.join(" ")).toMatch(/ -np 4 --host node1:3,10\.0\.0\.2:1 --mca btl_tcp_if_include eth0$/);
  expect(mpirunArguments({ ranks: 2, hosts: null, args: [] }).join(" ")).toMatch(/ -np 2$/);
});
