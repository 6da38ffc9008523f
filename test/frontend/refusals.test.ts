/** @file What a definition can get wrong about tensors and ops, word for word: where, what, what to do. */
import { expect, test } from "vitest";
import { definition, lowered, type Parts, refusal } from "./lowering.ts";

type Source = Parts;

const table: readonly (readonly [what: string, source: Source, message: string])[] = [
  // tensors and ops
  [
    "an operator on tensors",
    { forward: "h = h + h;" },
    `
tiny.ts:12:9: + works on numbers, and its left side is a tensor f32[1, 4, 8]
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = h + h;
     |         ^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Use add(a, b).`,
  ],
  [
    "a tensor times a number",
    { forward: "h = h * 2;" },
    `
tiny.ts:12:9: * works on numbers, and its left side is a tensor f32[1, 4, 8]
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = h * 2;
     |         ^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Use mul(a, b), or scale(a, { by: 2 }) for a number.`,
  ],
  [
    "a number as an operand",
    { forward: "h = mul(h, 2);" },
    `
tiny.ts:12:16: b of mul must be a tensor, not the number 2
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = mul(h, 2);
     |                ^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Use scale(x, { by: 2 }).`,
  ],
  [
    "minus a tensor",
    { forward: "h = -h;" },
    `
tiny.ts:12:9: - works on numbers, and this is a tensor f32[1, 4, 8]
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = -h;
     |         ^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Use neg(x).`,
  ],
  [
    "a condition on elements",
    { forward: "if (h > 0) h = silu(h);" },
    `
tiny.ts:12:9: > works on numbers, and its left side is a tensor f32[1, 4, 8]
  11 |     let h = this.embed.forward(input_ids);
> 12 |     if (h > 0) h = silu(h);
     |         ^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  The elements of a tensor are not known when the model is compiled.`,
  ],
  [
    "a method of tensors",
    { forward: "h = h.mul(h);" },
    `
tiny.ts:12:11: a tensor has no "mul"
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = h.mul(h);
     |           ^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  mul is a function: mul(x, ...), imported from "ithaca/nn".`,
  ],
  [
    "an op that there is not",
    { forward: "h = atention(h);" },
    `
tiny.ts:12:9: "atention" is not defined
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = atention(h);
     |         ^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Did you mean "attention"?`,
  ],
  [
    "an op that is not imported",
    { forward: "h = swiglu(h, h);" },
    `
tiny.ts:12:9: "swiglu" is not imported
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = swiglu(h, h);
     |         ^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Write: import { swiglu } from "ithaca/nn";`,
  ],
  [
    "an attribute that there is not",
    { forward: "h = matmul(h, this.embed.weight, { transpos_b: true });" },
    `
tiny.ts:12:40: matmul has no attribute "transpos_b"
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = matmul(h, this.embed.weight, { transpos_b: true });
     |                                        ^^^^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Did you mean "transpose_b"?`,
  ],
  [
    "an attribute of a wrong type",
    { forward: "h = split_heads(h, { heads: 1.5 });" },
    `
tiny.ts:12:26: heads of split_heads must be a whole number of at least 0, not the number 1.5
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = split_heads(h, { heads: 1.5 });
     |                          ^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);`,
  ],
  [
    "a list of wrong numbers",
    { forward: "h = constant({ value: 1, dims: [4, -1] });" },
    `
tiny.ts:12:30: dims of constant must be whole numbers of at least 0, not the number -1
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = constant({ value: 1, dims: [4, -1] });
     |                              ^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);`,
  ],
  [
    "an attribute that is missing",
    { forward: "split_heads(h, {});" },
    `
tiny.ts:12:5: split_heads needs the attribute heads
  11 |     let h = this.embed.forward(input_ids);
> 12 |     split_heads(h, {});
     |     ^^^^^^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Write: split_heads(..., { heads: ... })`,
  ],
  [
    "too few operands",
    { forward: "h = add(h);" },
    `
tiny.ts:12:9: add takes 2 arguments, not 1
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = add(h);
     |         ^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  It is called as add(a, b).`,
  ],
  [
    "too many operands",
    { forward: "h = silu(h, h, h);" },
    `
tiny.ts:12:9: silu takes 1 argument, not 3
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = silu(h, h, h);
     |         ^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  It is called as silu(x).`,
  ],
  [
    "no list of tensors",
    { forward: "h = concat(h, { dim: 0 });" },
    `
tiny.ts:12:16: concat takes an array of tensors, not a tensor f32[1, 4, 8]
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = concat(h, { dim: 0 });
     |                ^
  13 |     return cross_entropy(this.head.forward(h), labels);`,
  ],
  [
    "sizes that don't fit",
    {
      fields: "  odd: Linear;",
      build: "this.odd = new Linear(config.width + 1, config.width);",
      forward: "h = this.odd.forward(h);",
    },
    `
tiny.ts:14:9: matmul: [1, 4, 8] by [8, 9]: 8 and 9 differ
  13 |     let h = this.embed.forward(input_ids);
> 14 |     h = this.odd.forward(h);
     |         ^^^^^^^^^^^^^^^^^^^
  15 |     return cross_entropy(this.head.forward(h), labels);
  The last dimension of the input must equal the weight's number of input features.`,
  ],
  [
    "heads that don't divide",
    { forward: "split_heads(h, { heads: 3 });" },
    `
tiny.ts:12:5: split_heads: a last dimension of 8 can't be split into 3 heads
  11 |     let h = this.embed.forward(input_ids);
> 12 |     split_heads(h, { heads: 3 });
     |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Use a number of heads that divides 8.`,
  ],
  [
    "ops outside forward",
    { build: "add(this.embed.weight, this.embed.weight);" },
    `
tiny.ts:9:5: add computes with tensors, which there are only in forward
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     add(this.embed.weight, this.embed.weight);
     |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  10 |   }
  Constructors make parameters and modules; call ops in forward.`,
  ],
];

test.each(table)("%s", async (_, source, message) => {
  const text = definition(source);
  expect(`\n${await refusal(lowered(text))}`).toBe(message);
});
