// The mask: what should change, painted at a limited resolution, undone stroke by stroke.

import { feathered, grown } from "./distance.js";

const MOST_PIXELS = 4e6; // of the mask's own canvas; larger pictures have a coarser mask
const MOST_UNDO = 160e6; // bytes
const RGB = [255, 45, 111];
export const COLOUR = `rgb(${RGB})`;

const canvasOf = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

export class Mask {
  /** An empty mask for a picture of that size; `changed` is called after each change. */
  constructor(width, height, changed) {
    this.width = width;
    this.height = height;
    this.scale = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
    this.canvas = canvasOf(
      Math.max(1, Math.round(width * this.scale)),
      Math.max(1, Math.round(height * this.scale)),
    );
    this.paint = this.canvas.getContext("2d");
    this.kept = canvasOf(this.canvas.width, this.canvas.height);
    this.encoded = null; // a promise of the file, until the mask changes
    this.changed = () => {
      this.encoded = null;
      changed();
    };
    this.done = [];
    this.undone = [];
    this.touched = null;
  }

  get canUndo() {
    return this.done.length > 0;
  }

  get canRedo() {
    return this.undone.length > 0;
  }

  /** A piece of a stroke between two points of the picture; `width` in the picture's pixels. */
  stroke([x0, y0], [x1, y1], width, erase) {
    const { paint, scale } = this;
    paint.globalCompositeOperation = erase ? "destination-out" : "source-over";
    paint.strokeStyle = COLOUR;
    paint.lineCap = "round";
    paint.lineWidth = Math.max(1, width * scale);
    paint.beginPath();
    paint.moveTo(x0 * scale, y0 * scale);
    paint.lineTo(x1 * scale + 0.001, y1 * scale); // a stroke of no length would paint nothing
    paint.stroke();
    this.touch(Math.min(x0, x1) - width, Math.min(y0, y1) - width, Math.max(x0, x1) + width, Math.max(y0, y1) + width);
  }

  /** Fill a polygon of the picture's points. */
  fill(points, erase) {
    const { paint, scale } = this;
    paint.globalCompositeOperation = erase ? "destination-out" : "source-over";
    paint.fillStyle = COLOUR;
    paint.beginPath();
    for (const [x, y] of points) paint.lineTo(x * scale, y * scale);
    paint.fill();
    const xs = points.map(([x]) => x);
    const ys = points.map(([, y]) => y);
    this.touch(Math.min(...xs) - 2, Math.min(...ys) - 2, Math.max(...xs) + 2, Math.max(...ys) + 2);
    this.commit();
  }

  touch(left, top, right, bottom) {
    const old = this.touched ?? [Infinity, Infinity, -Infinity, -Infinity];
    this.touched = [
      Math.min(old[0], left * this.scale),
      Math.min(old[1], top * this.scale),
      Math.max(old[2], right * this.scale),
      Math.max(old[3], bottom * this.scale),
    ];
    this.changed();
  }

  /** End a stroke: from here on it can be undone as one. */
  commit() {
    if (!this.touched) return;
    const x = Math.max(0, Math.floor(this.touched[0]));
    const y = Math.max(0, Math.floor(this.touched[1]));
    const w = Math.min(this.canvas.width, Math.ceil(this.touched[2])) - x;
    const h = Math.min(this.canvas.height, Math.ceil(this.touched[3])) - y;
    this.touched = null;
    if (w <= 0 || h <= 0) return;
    const entry = { x, y, before: part(this.kept, x, y, w, h), after: part(this.canvas, x, y, w, h) };
    put(this.kept, entry.after, x, y);
    this.done.push(entry);
    this.undone = [];
    let bytes = 0;
    const first = this.done.findLastIndex(({ before }) => (bytes += 8 * before.width * before.height) > MOST_UNDO);
    this.done.splice(0, Math.min(first + 1, this.done.length - 1));
    this.changed();
  }

  /** Take back a stroke that has not ended, as where a second finger comes down. */
  abandon() {
    this.touched = null;
    put(this.canvas, this.kept, 0, 0);
    this.changed();
  }

  undo() {
    this.step(this.done, this.undone, "before");
  }

  redo() {
    this.step(this.undone, this.done, "after");
  }

  step(from, to, which) {
    const entry = from.pop();
    if (!entry) return;
    for (const canvas of [this.canvas, this.kept]) put(canvas, entry[which], entry.x, entry.y);
    to.push(entry);
    this.changed();
  }

  clear() {
    this.paint.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.all();
  }

  invert() {
    this.paint.globalCompositeOperation = "source-out";
    this.paint.fillStyle = COLOUR;
    this.paint.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.all();
  }

  /** Grow by pixels of the picture; below 0 it shrinks. */
  grow(pixels) {
    this.reshape((values, w, h) => grown(values, w, h, pixels * this.scale));
  }

  feather(pixels) {
    this.reshape((values, w, h) => feathered(values, w, h, pixels * this.scale));
  }

  /**
   * Add what a mask file marks: white, or transparent where transparency varies; or take it off.
   * `instead` is an entry of `done`: what it and all later ones did goes first.
   */
  add(bitmap, { erase = false, instead = null } = {}) {
    const { width, height } = this.canvas;
    const drawn = canvasOf(width, height);
    const paint = drawn.getContext("2d", { willReadFrequently: true });
    paint.drawImage(bitmap, 0, 0, width, height);
    const image = paint.getImageData(0, 0, width, height);
    const { data } = image;
    let opaque = true;
    for (let i = 3; i < data.length && opaque; i += 4) opaque = data[i] === 255;
    for (let i = 0; i < data.length; i += 4) {
      data[i + 3] = opaque ? 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2] : 255 - data[i + 3];
      [data[i], data[i + 1], data[i + 2]] = RGB;
    }
    paint.putImageData(image, 0, 0);
    if (instead) put(this.canvas, instead.before, instead.x, instead.y);
    this.paint.globalCompositeOperation = erase ? "destination-out" : "source-over";
    this.paint.drawImage(drawn, 0, 0);
    this.all();
  }

  /** Begin with what another mask of the same size had painted; there is nothing to undo then. */
  restore(bitmap) {
    put(this.canvas, bitmap, 0, 0);
    put(this.kept, bitmap, 0, 0);
    this.changed();
  }

  /** Begin with what a mask file marks; there is nothing to undo then. */
  load(bitmap) {
    this.add(bitmap);
    this.done = [];
    this.changed();
  }

  all() {
    this.touch(0, 0, this.width, this.height);
    this.commit();
  }

  reshape(how) {
    const { width, height } = this.canvas;
    const image = this.pixels();
    const values = new Uint8ClampedArray(width * height);
    for (let i = 0; i < values.length; i += 1) values[i] = image.data[4 * i + 3];
    const shaped = how(values, width, height);
    for (let i = 0; i < shaped.length; i += 1) {
      const at = 4 * i;
      [image.data[at], image.data[at + 1], image.data[at + 2]] = RGB;
      image.data[at + 3] = shaped[i];
    }
    this.paint.putImageData(image, 0, 0);
    this.all();
  }

  pixels() {
    const copy = part(this.canvas, 0, 0, this.canvas.width, this.canvas.height, { willReadFrequently: true });
    return copy.getContext("2d").getImageData(0, 0, copy.width, copy.height);
  }

  /** Whether nothing is marked. */
  get isEmpty() {
    const { data } = this.pixels();
    for (let i = 3; i < data.length; i += 4) if (data[i]) return false;
    return true;
  }

  /** A PNG of the mask as it was painted: white = repaint. Made once for each state of the mask. */
  sent() {
    this.encoded ??= this.encode(this.canvas);
    return this.encoded;
  }

  /** The same of the picture's size. */
  file() {
    return this.encode(this);
  }

  encode({ width, height }) {
    const whole = canvasOf(width, height);
    const paint = whole.getContext("2d", { alpha: false });
    // Black everywhere, white by the mask's own opacity.
    const white = canvasOf(this.canvas.width, this.canvas.height);
    const tint = white.getContext("2d");
    tint.drawImage(this.canvas, 0, 0);
    tint.globalCompositeOperation = "source-in";
    tint.fillStyle = "#fff";
    tint.fillRect(0, 0, white.width, white.height);
    paint.fillRect(0, 0, width, height);
    paint.drawImage(white, 0, 0, width, height);
    return new Promise((done) => whole.toBlob(done, "image/png"));
  }
}

function part(canvas, x, y, w, h, options) {
  const copy = canvasOf(w, h);
  copy.getContext("2d", options).drawImage(canvas, -x, -y);
  return copy;
}

function put(canvas, content, x, y) {
  const paint = canvas.getContext("2d");
  paint.globalCompositeOperation = "source-over";
  paint.clearRect(x, y, content.width, content.height);
  paint.drawImage(content, x, y);
}
