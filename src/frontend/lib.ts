/** @file The part of JavaScript's library that a definition may use, for its types; builtins.ts evaluates the same. */

export const LIBRARY = `
type Object = {};
type Function = {};
interface CallableFunction extends Function {}
interface NewableFunction extends Function {}
type IArguments = {};
type RegExp = {};
type Boolean = {};
type Symbol = {};

interface SymbolConstructor {
  readonly iterator: unique symbol;
}
declare const Symbol: SymbolConstructor;

interface IteratorYieldResult<T> {
  done?: false;
  value: T;
}
interface IteratorReturnResult<T> {
  done: true;
  value: T;
}
type IteratorResult<T, R = any> = IteratorYieldResult<T> | IteratorReturnResult<R>;
interface Iterator<T, R = any, N = any> {
  next(...args: [] | [N]): IteratorResult<T, R>;
}
interface Iterable<T, R = any, N = any> {
  [Symbol.iterator](): Iterator<T, R, N>;
}
interface IterableIterator<T, R = any, N = any> extends Iterator<T, R, N> {
  [Symbol.iterator](): IterableIterator<T, R, N>;
}
interface IteratorObject<T, R = unknown, N = unknown> extends Iterator<T, R, N> {
  [Symbol.iterator](): IteratorObject<T, R, N>;
}
interface ArrayIterator<T> extends IteratorObject<T, undefined, unknown> {
  [Symbol.iterator](): ArrayIterator<T>;
}

interface ReadonlyArray<T> {
  readonly length: number;
  readonly [n: number]: T;
  [Symbol.iterator](): ArrayIterator<T>;
  at(index: number): T | undefined;
  concat(...items: (T | readonly T[])[]): T[];
  entries(): ArrayIterator<[number, T]>;
  every(test: (item: T, index: number, array: readonly T[]) => unknown): boolean;
  filter<S extends T>(test: (item: T, index: number, array: readonly T[]) => item is S): S[];
  filter(test: (item: T, index: number, array: readonly T[]) => unknown): T[];
  find(test: (item: T, index: number) => unknown): T | undefined;
  findIndex(test: (item: T, index: number) => unknown): number;
  flat(depth?: number): T extends readonly (infer U)[] ? U[] : T[];
  flatMap<U>(make: (item: T, index: number, array: readonly T[]) => U | readonly U[]): U[];
  forEach(run: (item: T, index: number, array: readonly T[]) => void): void;
  includes(item: T): boolean;
  indexOf(item: T): number;
  join(separator?: string): string;
  keys(): ArrayIterator<number>;
  map<U>(make: (item: T, index: number, array: readonly T[]) => U): U[];
  reduce(combine: (total: T, item: T, index: number) => T): T;
  reduce<U>(combine: (total: U, item: T, index: number) => U, initial: U): U;
  slice(start?: number, end?: number): T[];
  some(test: (item: T, index: number, array: readonly T[]) => unknown): boolean;
  toReversed(): T[];
  toSorted(compare?: (a: T, b: T) => number): T[];
  values(): ArrayIterator<T>;
}

interface Array<T> extends ReadonlyArray<T> {
  length: number;
  [n: number]: T;
  fill(item: T): this;
  pop(): T | undefined;
  push(...items: T[]): number;
  reverse(): T[];
  shift(): T | undefined;
  sort(compare?: (a: T, b: T) => number): this;
  unshift(...items: T[]): number;
}
interface ArrayConstructor {
  new <T = any>(length?: number): T[];
  from<T>(items: readonly T[] | Iterable<T>): T[];
  from<T, U>(items: readonly T[] | Iterable<T>, make: (item: T, index: number) => U): U[];
  from<U>(items: { length: number }, make: (item: undefined, index: number) => U): U[];
  isArray(value: unknown): value is any[];
  of<T>(...items: T[]): T[];
}
declare const Array: ArrayConstructor;

interface String {
  readonly length: number;
  readonly [n: number]: string;
  [Symbol.iterator](): ArrayIterator<string>;
  at(index: number): string | undefined;
  endsWith(text: string): boolean;
  includes(text: string): boolean;
  indexOf(text: string): number;
  replace(text: string, by: string): string;
  slice(start?: number, end?: number): string;
  split(separator: string): string[];
  startsWith(text: string): boolean;
  toLowerCase(): string;
  toUpperCase(): string;
  trim(): string;
}
declare const String: (value: unknown) => string;

interface Number {
  toFixed(digits?: number): string;
  toString(): string;
}
interface NumberConstructor {
  (value: unknown): number;
  isFinite(value: unknown): boolean;
  isInteger(value: unknown): boolean;
  isNaN(value: unknown): boolean;
  readonly EPSILON: number;
  readonly MAX_SAFE_INTEGER: number;
}
declare const Number: NumberConstructor;
declare const Boolean: (value: unknown) => boolean;

interface ObjectConstructor {
  entries<T>(value: { [key: string]: T }): [string, T][];
  entries(value: object): [string, any][];
  fromEntries<T>(entries: readonly (readonly [string, T])[]): { [key: string]: T };
  keys(value: object): string[];
  values<T>(value: { [key: string]: T }): T[];
  values(value: object): any[];
}
declare const Object: ObjectConstructor;

interface Math {
  readonly E: number;
  readonly LN10: number;
  readonly LN2: number;
  readonly LOG10E: number;
  readonly LOG2E: number;
  readonly PI: number;
  readonly SQRT1_2: number;
  readonly SQRT2: number;
  abs(x: number): number;
  acos(x: number): number;
  asin(x: number): number;
  atan(x: number): number;
  atan2(y: number, x: number): number;
  cbrt(x: number): number;
  ceil(x: number): number;
  cos(x: number): number;
  cosh(x: number): number;
  exp(x: number): number;
  floor(x: number): number;
  fround(x: number): number;
  hypot(...values: number[]): number;
  log(x: number): number;
  log10(x: number): number;
  log1p(x: number): number;
  log2(x: number): number;
  max(...values: number[]): number;
  min(...values: number[]): number;
  pow(x: number, y: number): number;
  round(x: number): number;
  sign(x: number): number;
  sin(x: number): number;
  sinh(x: number): number;
  sqrt(x: number): number;
  tan(x: number): number;
  tanh(x: number): number;
  trunc(x: number): number;
}
declare const Math: Math;

interface Error {
  message: string;
}
interface ErrorConstructor {
  new (message?: string): Error;
}
declare const Error: ErrorConstructor;
declare const RangeError: ErrorConstructor;
declare const TypeError: ErrorConstructor;

declare const NaN: number;
declare const Infinity: number;

type Partial<T> = { [K in keyof T]?: T[K] };
type Required<T> = { [K in keyof T]-?: T[K] };
type Readonly<T> = { readonly [K in keyof T]: T[K] };
type Pick<T, K extends keyof T> = { [P in K]: T[P] };
type Record<K extends string | number, T> = { [P in K]: T };
type Exclude<T, U> = T extends U ? never : T;
type Omit<T, K> = Pick<T, Exclude<keyof T, K>>;
type NonNullable<T> = T & {};
`;
