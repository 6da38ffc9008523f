/** @file The one kind of error that is the user's to fix: where, what is wrong with the numbers, what to do about it. */

export interface ErrorContext {
  /** `file:line` or `file:line:column` of the user's text. */
  readonly location?: string;
  /** Lines of the user's text with a caret, ready to print. */
  readonly frame?: string;
  /** What the user can do, a sentence or two. */
  readonly remedy?: string;
}

/** An error in what the user gave us. Anything else that is thrown is our bug. */
export class UserError extends Error {
  readonly location: string | undefined;
  readonly frame: string | undefined;
  readonly remedy: string | undefined;

  constructor(message: string, context: ErrorContext = {}) {
    super(message);
    this.name = "UserError";
    this.location = context.location;
    this.frame = context.frame;
    this.remedy = context.remedy;
  }
}

/** The error as a person reads it: `location: message`, the frame, the remedy indented by two spaces. */
export function formatError(error: UserError): string {
  const lines = [error.location ? `${error.location}: ${error.message}` : error.message];
  if (error.frame) lines.push(error.frame);
  if (error.remedy) lines.push(...error.remedy.split("\n").map((line) => `  ${line}`));
  return lines.join("\n");
}
