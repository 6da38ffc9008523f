/** @file What depends on the configuration alone is computed: each row is statements and what `answer` then is. */
import { describe, expect, test } from "vitest";
import { definition, lowered, refusal } from "./lowering.ts";

/** Runs statements in a constructor and reads `answer` out of the error that they end with. */
async function answerOf(statements: string, top = ""): Promise<string> {
  const message = await refusal(
    lowered(definition({ top, build: `let answer: any; ${statements} throw new Error(\`=\${answer}=\`);` })),
  );
  return /: =(.*)=\n/.exec(message)?.[1] ?? message;
}

const rows: readonly (readonly [string, string])[] = [
  // arithmetic and comparison
  ["answer = 2 + 3 * 4 - 10 / 4;", "11.5"],
  ["answer = 7 % 4 + 2 ** 3 ** 2;", "515"],
  ["answer = -(-3) + +'4' + ~1;", "5"],
  ["answer = (5 & 3) + (5 | 3) + (5 ^ 3) + (1 << 4) + (-8 >> 1) + (-1 >>> 30);", "29"],
  ["answer = 1 < 2 && 2 <= 2 && 'a' < 'b' && !(3 > 4) && 3 >= 3;", "true"],
  ["answer = 1 === 1 && '1' !== (1 as any) && null == undefined && null !== (undefined as any);", "true"],
  ["answer = Math.floor(config.width / 3) * Math.max(1, 2, 3) + Math.sqrt(16);", "10"],
  ["answer = 0x10 + 1e3 + 1_000;", "2016"],
  ["answer = NaN === NaN;", "false"],
  // text
  ["answer = 'a' + 1 + `b` + config.width + true;", "a1b8true"],
  ["answer = ' Layers '.trim().toLowerCase().replace('s', '!').slice(1, 6).toUpperCase();", "AYER!"],
  ["answer = 'a,b'.split(',').length + 'abc'.indexOf('c');", "4"],
  [
    "answer = 'abc'.startsWith('ab') && 'abc'.endsWith('c') && 'abc'.includes('b') && 'abc'.at(-1) === 'c';",
    "true",
  ],
  ["answer = (3.14159).toFixed(2) + String(1) + Number('2');", "3.1412"],
  // choices
  ["if (config.width > 4) answer = 'wide'; else answer = 'narrow';", "wide"],
  ["answer = config.width > 9 ? 1 : config.depth === 3 ? 2 : 3;", "2"],
  ["answer = config.missing ?? 5; answer ||= 6; answer &&= 7; answer ??= 8;", "7"],
  ["answer = config.missing?.a.b.c() ?? 'none';", "none"],
  ["answer = config.missing === undefined && config.missing == null && !config.missing;", "true"],
  [
    "switch (config.depth) { case 1: answer = 1; break; case 3: answer = 3; case 4: answer += 10; break; default: answer = 0; }",
    "13",
  ],
  ["switch (config.depth) { default: answer = 0; case 7: answer += 1; }", "1"],
  [
    "answer = typeof config + typeof 1 + typeof 'a' + typeof undefined + typeof (() => 1);",
    "objectnumberstringundefinedfunction",
  ],
  ["answer = 'width' in config && !('deep' in config);", "true"],
  // loops
  [
    "answer = 0; for (let i = 0; i < 5; i++) { if (i === 1) continue; if (i === 4) break; answer += i; }",
    "5",
  ],
  ["answer = ''; for (const [i, x] of ['a', 'b'].entries()) answer += i + x;", "0a1b"],
  ["answer = ''; for (const key in config) answer += key;", "widthdepthvocab"],
  ["let i = 0; while (i < 3) i++; do { i--; } while (i > 1); answer = i--; answer += i;", "1"],
  [
    "const fs: any[] = []; for (let i = 0; i < 3; i++) fs.push(() => i); answer = fs.map((f) => f()).join();",
    "0,1,2",
  ],
  // arrays
  ["answer = Array.from({ length: 3 }, (_, i) => i * i).join('-');", "0-1-4"],
  ["const [a, , b = 9, ...rest] = [1, 2, undefined, 4, 5]; answer = a + b + rest.length;", "12"],
  [
    "answer = [...[1, 2], 3, ...[4]].map((x) => x * 2).filter((x) => x > 2).reduce((a, b) => a + b, 100);",
    "118",
  ],
  [
    "const xs = [3, 1, 2]; xs.push(9); xs.unshift(0); xs.pop(); answer = xs.sort((a, b) => a - b).join() + xs.at(-1);",
    "0,1,2,33",
  ],
  ["answer = [1, 2, 3].includes(2) && [1, 2].some((x) => x > 1) && [1, 2].every((x) => x > 0);", "true"],
  ["answer = [[1], [2, [3]]].flat(2).concat([4], 5).slice(1, -1).join();", "2,3,4"],
  [
    "answer = [1, 2].flatMap((x) => [x, x]).indexOf(2) + [5, 6].findIndex((x) => x === 6) + [7].find((x) => x === 7);",
    "10",
  ],
  [
    "answer = [3, 1].toSorted((a, b) => a - b).join() + [1, 2].toReversed().join() + [1, 2].reverse().join();",
    "1,32,12,1",
  ],
  ["answer = new Array(3).fill(0).map((_, i) => i).join('');", "012"],
  [
    "const xs: any = []; xs[0] = 1; xs[1] = 2; let a = 1; let b = 2; [a, b] = [b, a]; answer = xs.length + 10 * a + b;",
    "23",
  ],
  ["answer = Array.isArray([]) && !Array.isArray(config) && Array.of(1, 2).length === 2;", "true"],
  ["answer = [...[1, 2].keys()].join() + [...['a'].values()].join();", "0,1a"],
  // objects
  [
    "const { width, depth: d = 7, other = 5, ...rest } = config; answer = width + d + other + Object.keys(rest).join();",
    "16vocab",
  ],
  [
    "const o = { ...config, width: 1, ['de' + 'pth']: 2, f(x: number) { return x + 1; } }; answer = o.width + o.depth + o.f(3);",
    "7",
  ],
  [
    "answer = Object.entries({ a: 1, b: 2 }).map(([k, v]) => k + v).join() + Object.values({ c: 3 }).join();",
    "a1,b23",
  ],
  ["const o: any = Object.fromEntries([['a', 1]]); o.b = 2; o['c'] = 3; answer = o.a + o.b + o.c;", "6"],
  [
    "const o: any = { a: { b: [10, 20] } }; const { a: { b: [, second] } } = o; answer = second; ({ x: answer = 3 } = o);",
    "3",
  ],
  // functions and classes
  [
    "const f = (x: number, y = x + 1, ...zs: number[]) => x + y + zs.length; answer = f(1) + f(1, 1, 5, 5);",
    "7",
  ],
  ["answer = twice(4);", "8"],
  [
    "const count = () => { let n = 0; return () => ++n; }; const next = count(); next(); answer = next();",
    "2",
  ],
  ["const f = function g(n: number): number { return n < 2 ? 1 : n * g(n - 1); }; answer = f(5);", "120"],
  ["const b = new B(3); answer = b.area + b.name() + B.made + (b instanceof A);", "9A:B2true"],
  ["const b = new B(3); b.side = 5; answer = b.area;", "25"],
  ["const C = class { x = 4; }; answer = new C().x;", "4"],
];

const TOP = `
function twice(x: number) { return helper(x) * 2; }
function helper(x: number) { return x; }
abstract class A { static made = 2; readonly #own = "A"; size = 1; constructor(size: number) { this.size = size; } name() { return this.#own; } abstract get area(): number; }
class B extends A { extra = this.size * this.size; get area() { return this.extra; } set side(x: number) { this.extra = x * x; } override name() { return super.name() + ":B"; } }
`.trim();

describe("what is known is computed", () => {
  test.each(rows)("%s", async (statements, expected) => {
    expect(await answerOf(statements, TOP)).toBe(expected);
  });
});

test("files import each other", async () => {
  const graph = await lowered({
    "tiny.ts": definition({
      top: 'import { Block, WIDTH as W, type Shape } from "./blocks/block.ts"; import * as more from "./blocks/index.ts";',
      fields: "block: Block;",
      build: "const shape: Shape = { width: W }; this.block = new Block(shape.width * more.FACTOR);",
      forward: "h = this.block.forward(h);",
    }),
    "blocks/block.ts":
      'import { Linear, Module, type Tensor } from "ithaca/nn";\nimport type { Shape } from "./index.ts";\nexport type { Shape };\nexport const WIDTH = 4;\nexport class Block extends Module {\n' +
      "  proj: Linear;\n  constructor(width: number) { super(); this.proj = new Linear(width, width); }\n" +
      "  forward(x: Tensor): Tensor { return this.proj.forward(x); }\n}\n",
    "blocks/index.ts":
      "const two = 2;\nexport { two as FACTOR };\nexport interface Shape { width: number }\n",
  });
  expect(graph.params.map(({ value }) => value.name)).toContain("block.proj.bias");
  expect(graph.nodes.map((node) => node.loc)).toContain("block.ts:8");
});

test("files of equal names are told apart in locations", async () => {
  const graph = await lowered({
    "tiny.ts": definition({ top: 'import { twice } from "./other/tiny.ts";', forward: "h = twice(h);" }),
    "other/tiny.ts":
      'import { add, type Tensor } from "ithaca/nn";\nexport function twice(x: Tensor): Tensor {\n  return add(x, x);\n}\n',
  });
  expect(graph.nodes.find((node) => node.op === "add")?.loc).toBe("other/tiny.ts:3");
});
