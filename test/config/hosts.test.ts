/** @file parallel.hosts: which host runs how many ranks, and what is said of lists that don't fit. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { placeRanks } from "../../src/config/hosts.ts";
import { parseConfig } from "../../src/config/load.ts";

const folder = mkdtempSync(join(tmpdir(), "ithaca-hosts-"));
mkdirSync(join(folder, "model"));
for (const name of ["model/config.json", "tokens.bin"]) writeFileSync(join(folder, name), "{}");
afterAll(() => rmSync(folder, { recursive: true }));

const minimal = `model: model
data: tokens.bin
output_dir: out
sequence_length: 64
max_steps: 1
learning_rate: 1.0e-3
`;

function parse(parallel: string) {
  return parseConfig(`${minimal}parallel: { ${parallel} }\n`, join(folder, "config.yaml"));
}

describe("ranks are placed", () => {
  test.each([
    [
      ["a:3", "b:1"],
      ["a 3", "b 1"],
    ],
    [
      ["a", "b"],
      ["a 2", "b 2"],
    ],
    [["10.0.0.1:4"], ["10.0.0.1 4"]],
    [["node-7.cluster.example"], ["node-7.cluster.example 4"]],
  ])("four on %j", (entries, expected) => {
    const placed = placeRanks(entries, 4);
    if ("message" in placed) throw new Error(placed.message);
    expect(placed.map(({ host, ranks }) => `${host} ${ranks}`)).toEqual(expected);
  });

  test.each([
    [["a:2", "b:1"], "the hosts have 3 ranks, the run has 4", "[a:2, b:2]"],
    [["a:4", "b"], "b has no number of ranks, and other hosts do", "[a:2, b:2]"],
    [["a", "b", "c"], "4 ranks can't be shared evenly by 3 hosts", "[a:2, b:1, c:1]"],
    [["a:0", "b:4"], '"a:0" is no host', "node1:4"],
    [["a b:4"], '"a b:4" is no host', "node1:4"],
    [[], "the list of hosts is empty", "node1:4"],
  ])("not on %j", (entries, message, remedy) => {
    expect(placeRanks(entries, 4)).toMatchObject({ message, remedy: expect.stringContaining(remedy) });
  });
});

describe("config.yaml", () => {
  test("counts threads by the host with the most ranks", () => {
    const config = parse("sequence: 2, comm: mpi, hosts: [10.0.0.1:1, 10.0.0.2:1]");
    expect(config.parallel.hosts).toEqual(["10.0.0.1:1", "10.0.0.2:1"]);
    expect(config.threads).toBe(availableParallelism());
  });

  test("points at hosts that don't fit", () => {
    expect(() => parse("sequence: 4, comm: mpi, hosts: [a:2, b:1]")).toThrow(
      expect.objectContaining({
        message: "the hosts have 3 ranks, the run has 4",
        location: `${join(folder, "config.yaml")}:7:44`,
        remedy: "parallel.sequence times parallel.data is 4: name so many ranks, such as [a:2, b:2].",
      }),
    );
  });

  test.each(["hosts: [a:1]", "launcher_args: [--tag-output]"])("%s needs processes", (setting) => {
    expect(() => parse(setting)).toThrow(/^parallel\.(hosts|launcher_args) needs ranks that are processes$/);
  });

  test("hosts are a list of texts", () => {
    expect(() => parse("comm: mpi, hosts: a:1")).toThrow(
      'parallel.hosts is "a:1"; it must be a list of hosts such as [node1:4, node2:4], or null',
    );
  });
});
