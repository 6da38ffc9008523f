/** @file Cuts a byte-level BPE tokenizer down to the tokens that a text needs; of that text it makes the same tokens. */
import { Tokenizer } from "@huggingface/tokenizers";

/**
 * A token is made by merges of tokens, and those of others, down to single bytes; all on the way are kept, with new
 * ids in the old order. Special tokens other than `endOfText` are left out.
 * @param {any} definition the content of a tokenizer.json
 * @param {string} text
 * @param {string} endOfText
 * @returns {any} the content of the small tokenizer.json
 */
export function smallTokenizer(definition, text, endOfText) {
  const { vocab, merges } = definition.model;
  const tokenizer = new Tokenizer(definition, {});
  const needed = new Set(Object.keys(vocab).filter((token) => [...token].length === 1));
  for (const line of text.split(/(?<=\n)/)) {
    for (const token of tokenizer.encode(line, { add_special_tokens: false }).tokens) needed.add(token);
  }
  const madeOf = new Map(
    merges.map((/** @type {[string, string]} */ [left, right]) => [left + right, [left, right]]),
  );
  // A Set is iterated in the order of insertion, so that what is added on the way is visited too.
  for (const token of needed) for (const part of madeOf.get(token) ?? []) needed.add(part);

  const tokens = [...needed].filter((token) => token in vocab).sort((a, b) => vocab[a] - vocab[b]);
  const added = definition.added_tokens.find((/** @type {any} */ token) => token.content === endOfText);
  return {
    ...definition,
    added_tokens: [{ ...added, id: tokens.length }],
    model: {
      ...definition.model,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.filter((/** @type {[string, string]} */ pair) =>
        [...pair, pair.join("")].every((token) => needed.has(token)),
      ),
    },
  };
}
