/** @file The interpreter, whole and rank by rank, on programs whose numbers can be worked out by hand. */
import { describe, expect, test } from "vitest";
import { array, type NDArray, scalar } from "../../src/ir/array.ts";
import { coordinatesOf, interpret, type Watch } from "../../src/ir/interpret.ts";
import { Memo } from "../../src/ir/memo.ts";
import { parse } from "../../src/ir/parse.ts";
import { printComplaint, verify } from "../../src/ir/verify.ts";

/** The output `out`, the same whole and rank by rank. */
function run(text: string, arrays: Record<string, NDArray>): number[] {
  const graph = parse(text);
  expect(verify(graph, ["typed", "laid-out"]).map(printComplaint)).toEqual([]);
  const given = new Map(Object.entries(arrays));
  const whole = interpret(graph, given).outputs.get("out") as NDArray;
  const byRank = interpret(graph, given, { byRank: true }).outputs.get("out") as NDArray;
  expect([...byRank.data]).toEqual([...whole.data]);
  expect(byRank.sizes).toEqual(whole.sizes);
  return [...whole.data];
}

describe("repeat", () => {
  test("hands on what is carried: Fibonacci", () => {
    const text = `graph g {
      input %a : f32[]
      input %b : f32[]
      %f, %g = repeat %a, %b times=6 carry=2 : f32[], f32[] {
        param %x : f32[]
        param %y : f32[]
        %z = add %x, %y : f32[]
        return %y, %z
      }
      return out = %g
    }`;
    expect(run(text, { a: scalar(0), b: scalar(1) })).toEqual([13]);
  });

  test("gives turn i member i of a family, and everything else whole", () => {
    const text = `graph g mesh(dp=2) {
      input %x : f32[2@dp]
      param %w : 3 x f32[2@dp]
      input %s : f32[]
      %y = repeat %x, %w, %s times=3 carry=1 : f32[2@dp] {
        param %a : f32[2@dp]
        param %b : f32[2@dp]
        param %c : f32[]
        %d = mul %a, %c : f32[2@dp]
        %e = add %d, %b : f32[2@dp]
        return %e
      }
      return out = %y
    }`;
    const w = array([3, 2], [1, 10, 2, 20, 3, 30]);
    expect(run(text, { x: array([2], [0, 1]), w, s: scalar(2) })).toEqual([11, 118]);
  });
});

describe("tile", () => {
  const body = `{
        param %a : f32[2@dp, 3]
        param %b : f32[3]
        %c = mul %a, %b : f32[2@dp, 3]
        %d = sum %a dims=[0] : f32[3]{sum@dp}
        return %c, %d
      }`;

  test("cuts each rank's share, joins results that have the dimension and adds up the others", () => {
    const text = `graph g mesh(dp=2) {
      input %x : f32[4@dp, 3]
      input %w : f32[3]
      %y, %s = tile %x, %w tiles=2 split=[0, -1] join=[0, -1] : f32[4@dp, 3], f32[3]{sum@dp} ${body}
      %t = all_reduce %s axis=dp : f32[3]
      return out = OUT
    }`;
    const x = array([4, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    const w = array([3], [1, 0, -1]);
    expect(run(text.replace("OUT", "%y"), { x, w })).toEqual([1, 0, -3, 4, 0, -6, 7, 0, -9, 10, 0, -12]);
    expect(run(text.replace("OUT", "%t"), { x, w })).toEqual([22, 26, 30]);
  });
});

describe("ranks", () => {
  test("are numbered with the last axis fastest", () => {
    const mesh = new Map([
      ["dp", 2],
      ["sp", 2],
    ]);
    expect(coordinatesOf(mesh).map((rank) => [...rank.values()])).toEqual([
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ]);
  });

  test("a dimension split over two axes is cut by the major one first", () => {
    const text = `graph g mesh(dp=2, sp=2) {
      input %x : f32[4@dp@sp]
      %y = all_gather %x axis=sp dim=0 : f32[4@dp]
      %z = neg %y : f32[4@dp]
      return out = %z
    }`;
    expect(run(text, { x: array([4], [1, 2, 3, 4]) })).toEqual([-1, -2, -3, -4]);
  });

  test("move heads and sequence around attention without changing it", () => {
    const text = `graph g mesh(sp=2) {
      input %q : f32[1, 4@sp, 2, 1]
      input %segments : i32[1, 4]
      %q.1 = all_to_all %q axis=sp from=1 to=2 : f32[1, 4, 2@sp, 1]
      %o.1, %lse = attention %q.1, %q.1, %q.1, %segments : f32[1, 4, 2@sp, 1], f32[1, 4, 2@sp]
      %o = all_to_all %o.1 axis=sp from=2 to=1 : f32[1, 4@sp, 2, 1]
      return out = %o
    }`;
    const q = array([1, 4, 2, 1], [1, 2, 3, 4, 5, 6, 7, 8]);
    const [first, second] = run(text, { q, segments: array([1, 4], [0, 0, 1, 1]) });
    expect([first, second]).toEqual([1, 2]);
  });

  test("a missing array is named", () => {
    const graph = parse("graph g {\n  input %x : f32[]\n  return out = %x\n}");
    expect(() => interpret(graph, new Map())).toThrow("no array was given for %x");
  });
});

test("updates are given by the parameter's name", () => {
  const graph = parse(`graph g {
    param %w : f32[2]
    %v = scale %w by=3 : f32[2]
    update %w = %v
  }`);
  expect([
    ...(interpret(graph, new Map([["w", array([2], [1, 2])]])).updates.get("w") as NDArray).data,
  ]).toEqual([3, 6]);
});

describe("a memo", () => {
  const text = (last: string) => `graph g mesh(sp=2) {
      input %x : f32[4@sp]
      param %w : f32[4@sp]
      %a = mul %x, %w : f32[4@sp]
      %b = exp %a : f32[4@sp]
      %c = ${last} : f32[4@sp]
      return c = %c
    }`;
  const given = new Map([
    ["x", array([4], [1, 2, 3, 4])],
    ["w", array([4], [5, 6, 7, 8])],
  ]);
  /** Every value's shares, by name. */
  const runWith = (last: string, memo: Memo, arrays = given) => {
    const values = new Map<string, readonly NDArray[]>();
    const watch: Watch = (path, _value, shares) => void values.set(path, shares);
    interpret(parse(text(last)), arrays, { byRank: true, memo, watch });
    return values;
  };

  test("gives another graph what both compute from the same arrays, and nothing else", () => {
    const memo = new Memo();
    const [first, second] = [runWith("add %a, %b", memo), runWith("sub %a, %b", memo)];
    for (const name of ["a", "b"]) {
      second.get(name)?.forEach((share, rank) => {
        expect(share).toBe(first.get(name)?.[rank]);
      });
    }
    expect(second.get("c")?.[1].data).toEqual(runWith("sub %a, %b", new Memo()).get("c")?.[1].data);
    const others = runWith("sub %a, %b", memo, new Map([...given, ["w", array([4], [5, 6, 7, 9])]]));
    expect(others.get("a")?.[0]).not.toBe(first.get("a")?.[0]);
    expect([...(others.get("a")?.[1].data ?? [])]).toEqual([21, 36]);
  });

  test("forgets what nobody asked for in a turn", () => {
    const memo = new Memo();
    const first = runWith("add %a, %b", memo);
    memo.turn();
    runWith("sub %a, %b", memo);
    memo.turn();
    const third = runWith("add %a, %b", memo);
    expect(third.get("a")?.[0]).toBe(first.get("a")?.[0]);
    expect(third.get("c")?.[0]).not.toBe(first.get("c")?.[0]);
  });
});
