// What changed between two pictures, pixel by pixel at their own size; nothing is scaled before it.

import { Levels } from "./viewport.js";

const AMPLIFIED = 8;
const STRIP = 2 ** 20; // pixels that are compared at a time

/**
 * Levels of the difference of two pictures' levels, amplified; black is unchanged.
 * `box`: where the first lies in the second, [x, y, width, height]; null = all of it.
 */
export async function differenceOf(before, after, box = null) {
  const { width, height } = after;
  const canvas = new OffscreenCanvas(width, height);
  const paint = canvas.getContext("2d", { alpha: false });
  const rows = Math.max(1, Math.floor(STRIP / width));
  for (let top = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    const all = [0, 0, width, height];
    const first = strip(before.full, box ?? all, top, width, count);
    const second = strip(after.full, all, top, width, count);
    subtract(second.data, first.data);
    paint.putImageData(second, 0, top);
    await new Promise((next) => setTimeout(next)); // pointers and keys are heard meanwhile
  }
  return Levels.of(canvas);
}

/** Rows of a picture that lies in a box, stretched only where that has another size. */
function strip(picture, [x, y, w, h], top, width, count) {
  const canvas = new OffscreenCanvas(width, count);
  const paint = canvas.getContext("2d", { willReadFrequently: true });
  paint.drawImage(picture, x, y - top, w, h);
  return paint.getImageData(0, 0, width, count);
}

/** Leave the amplified difference of two pictures' bytes in the first; that of opacity makes it grey. */
function subtract(bytes, others) {
  for (let i = 0; i < bytes.length; i += 4) {
    const veil = Math.abs(bytes[i + 3] - others[i + 3]);
    for (let c = i; c < i + 3; c += 1) bytes[c] = AMPLIFIED * Math.max(veil, Math.abs(bytes[c] - others[c]));
    bytes[i + 3] = 255;
  }
}
