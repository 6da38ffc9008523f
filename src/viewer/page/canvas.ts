/** @file A canvas at the screen's own resolution, ready to be drawn on in the page's colors. */

export interface Surface {
  readonly context: CanvasRenderingContext2D;
  /** In the screen's pixels. */
  readonly width: number;
  readonly height: number;
  /** The screen's pixels per pixel of the page. */
  readonly ratio: number;
  /** The value of a variable of style.css. */
  color(name: string): string;
}

/** Empties the canvas; null where the browser gives no context. */
export function surfaceOf(canvas: HTMLCanvasElement): Surface | null {
  const ratio = devicePixelRatio;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const context = canvas.getContext("2d");
  if (!context) return null;
  const style = getComputedStyle(canvas);
  const { width, height } = canvas;
  return { context, width, height, ratio, color: (name) => style.getPropertyValue(`--${name}`) };
}
