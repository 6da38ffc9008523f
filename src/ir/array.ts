/** @file Plain arrays of float64, on which ops have their reference evaluation. */

/** A dense row-major array. A scalar has no sizes and one element. */
export interface NDArray {
  readonly sizes: readonly number[];
  readonly data: Float64Array;
}

export function product(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total * size, 1);
}

export function zeros(sizes: readonly number[]): NDArray {
  return { sizes, data: new Float64Array(product(sizes)) };
}

export function array(sizes: readonly number[], data: ArrayLike<number>): NDArray {
  if (data.length !== product(sizes))
    throw new Error(`${data.length} elements for sizes [${sizes.join(", ")}]`);
  return { sizes, data: new Float64Array(data) };
}

export function scalar(value: number): NDArray {
  return array([], [value]);
}

/** Row-major strides, in elements. */
export function stridesOf(sizes: readonly number[]): number[] {
  const strides = new Array<number>(sizes.length).fill(1);
  for (let i = sizes.length - 2; i >= 0; i--) strides[i] = strides[i + 1] * sizes[i + 1];
  return strides;
}

/** Calls `visit` with every index of `sizes`, in row-major order. The index array is reused. */
export function forEachIndex(
  sizes: readonly number[],
  visit: (index: readonly number[], flat: number) => void,
): void {
  const total = product(sizes);
  const index = new Array<number>(sizes.length).fill(0);
  for (let flat = 0; flat < total; flat++) {
    visit(index, flat);
    for (let d = sizes.length - 1; d >= 0; d--) {
      if (++index[d] < sizes[d]) break;
      index[d] = 0;
    }
  }
}

/** An array made element by element. */
export function generate(sizes: readonly number[], value: (index: readonly number[]) => number): NDArray {
  const result = zeros(sizes);
  forEachIndex(sizes, (index, flat) => {
    result.data[flat] = value(index);
  });
  return result;
}

/** Calls `visit` for every row, along the last dimension, of a block of `sizes` that begins at `start` in an array of `whole`. */
function forEachRow(
  whole: readonly number[],
  start: readonly number[],
  sizes: readonly number[],
  visit: (wholeAt: number, partAt: number, length: number) => void,
): void {
  const length = sizes.at(-1) ?? 1;
  const strides = stridesOf(whole);
  const first = start.reduce((offset, at, d) => offset + at * strides[d], 0);
  forEachIndex(sizes.slice(0, -1), (index, row) => {
    let at = first;
    for (let d = 0; d < index.length; d++) at += index[d] * strides[d];
    visit(at, row * length, length);
  });
}

/** The part of `x` that begins at `start` and has `sizes`. */
export function slice(x: NDArray, start: readonly number[], sizes: readonly number[]): NDArray {
  const part = zeros(sizes);
  forEachRow(x.sizes, start, sizes, (from, to, length) => {
    for (let i = 0; i < length; i++) part.data[to + i] = x.data[from + i];
  });
  return part;
}

/** Adds `part` into `x`, beginning at `start`. The one function here that writes to its argument. */
export function addInto(x: NDArray, part: NDArray, start: readonly number[]): void {
  forEachRow(x.sizes, start, part.sizes, (to, from, length) => {
    for (let i = 0; i < length; i++) x.data[to + i] += part.data[from + i];
  });
}

export function reshape(x: NDArray, sizes: readonly number[]): NDArray {
  return array(sizes, x.data);
}
