/** @file Questions about what an expression evaluated to, and how messages speak of it. */
import { printType, sizesOf } from "../ir/type.ts";
import {
  Absent,
  ClassDatum,
  type Datum,
  ErrorDatum,
  FunctionDatum,
  InstanceDatum,
  NativeDatum,
  ParameterDatum,
  TensorDatum,
} from "./values.ts";

export function isNullish(datum: Datum): datum is null | undefined | Absent {
  return datum === null || datum === undefined || datum instanceof Absent;
}

export function isUndefined(datum: Datum): datum is undefined | Absent {
  return datum === undefined || datum instanceof Absent;
}

/** Whether an `if` takes its branch. Everything that is not a number, string, boolean or missing is true. */
export function isTruthy(datum: Datum): boolean {
  if (isNullish(datum) || datum === false || datum === "") return false;
  return typeof datum !== "number" || (datum !== 0 && !Number.isNaN(datum));
}

/** `===` of the language. */
export function isSame(a: Datum, b: Datum): boolean {
  return isUndefined(a) ? isUndefined(b) : a === b;
}

export function isTensor(datum: Datum): datum is TensorDatum | ParameterDatum {
  return datum instanceof TensorDatum || datum instanceof ParameterDatum;
}

export function shapeOf(tensor: TensorDatum | ParameterDatum): readonly number[] {
  return tensor instanceof TensorDatum ? sizesOf(tensor.value.type) : tensor.shape;
}

/** What messages call a value: `the number 3`, `a tensor f32[2, 8]`, `a Linear`. */
export function describe(datum: Datum): string {
  if (datum === null) return "null";
  if (isUndefined(datum)) return "undefined";
  if (typeof datum === "number") return `the number ${datum}`;
  if (typeof datum === "boolean") return String(datum);
  if (typeof datum === "string")
    return JSON.stringify(datum.length > 40 ? `${datum.slice(0, 37)}...` : datum);
  if (Array.isArray(datum)) return `an array of ${datum.length}`;
  if (datum instanceof TensorDatum) return `a tensor ${printType(datum.value.type)}`;
  if (datum instanceof ParameterDatum) return `a parameter [${datum.shape.join(", ")}]`;
  if (datum instanceof InstanceDatum)
    return `${/^[AEIOU]/.test(datum.class.name) ? "an" : "a"} ${datum.class.name}`;
  if (datum instanceof ClassDatum) return `the class ${datum.name}`;
  if (datum instanceof FunctionDatum || datum instanceof NativeDatum) return `the function ${datum.name}`;
  return datum instanceof ErrorDatum ? "an error" : "an object";
}

/** `typeof` of the language. */
export function typeOf(datum: Datum): string {
  if (isUndefined(datum)) return "undefined";
  if (datum instanceof FunctionDatum || datum instanceof ClassDatum) return "function";
  if (datum instanceof NativeDatum) return datum.run ? "function" : "object";
  return typeof datum;
}
