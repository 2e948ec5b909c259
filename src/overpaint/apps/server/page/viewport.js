// The canvas that shows the picture: zoom, pan, and the ways of comparing. It draws once a frame,
// and of a large picture only what is seen, from a copy that is not much larger than the screen.

import { COLOUR } from "./mask.js";

const SMALLEST = 1024; // longest side of the smallest copy
const EDGE = 24; // pixels around a picture that is fitted
const NO_FRAME = { left: 0, top: 0, right: 0, bottom: 0 };

/** A picture and copies of it, each half the size of the one before. */
export class Levels {
  static async of(source) {
    const levels = [await createImageBitmap(source)];
    for (let last = levels[0]; Math.max(last.width, last.height) > 2 * SMALLEST; ) {
      last = await createImageBitmap(last, {
        resizeWidth: Math.ceil(last.width / 2),
        resizeHeight: Math.ceil(last.height / 2),
        resizeQuality: "medium",
      });
      levels.push(last);
    }
    return new Levels(levels);
  }

  constructor(levels) {
    this.levels = levels;
    [this.full] = levels;
  }

  get width() {
    return this.full.width;
  }

  get height() {
    return this.full.height;
  }

  /** The smallest copy that is at least `scale` times as large as the picture. */
  at(scale) {
    return this.levels.findLast((level) => level.width >= scale * this.width - 1) ?? this.full;
  }

  close() {
    for (const level of this.levels) level.close();
  }
}

export class Viewport {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.size = null; // of the picture
    this.scale = 1; // screen pixels for one of the picture's
    this.x = 0; // of the picture's corner, in the stage
    this.y = 0;
    this.view = "result";
    this.split = 0.5; // of the slider, in the stage's width
    this.after = null;
    this.before = null;
    this.changes = null; // between before and after
    this.mask = null;
    this.cursor = null; // [x, y, radius] in the stage
    this.outline = null; // points of a lasso or box, in the picture
    this.holding = null; // a picture shown instead of everything
    this.patch = null; // { bitmap, box }: a part of the picture that is shown as it is about to be
    this.waiting = 0;
    this.hidesMask = false;
    this.look = {}; // of the mask: { colour, outline }
    this.frame = null; // how far the picture is to grow: { left, top, right, bottom }
    this.held = false; // whether a pointer draws the frame
    this.beforeBox = null; // where `before` lies in the picture: [x, y, width, height]; null = all of it
    this.holdingBox = null;
    this.marks = []; // places that were clicked, in the picture: [x, y, inside]
    this.onScale = () => {};
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.resize();
  }

  resize() {
    const box = this.canvas.parentElement.getBoundingClientRect();
    const before = [this.width, this.height];
    [this.width, this.height] = [box.width, box.height];
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.canvas.width = Math.round(box.width * this.ratio);
    this.canvas.height = Math.round(box.height * this.ratio);
    if (this.size) {
      if (this.fitted) this.fit();
      else this.move((this.width - before[0]) / 2, (this.height - before[1]) / 2);
    }
    this.draw();
  }

  /** Show another picture size, fitted. */
  open(width, height) {
    this.size = [width, height];
    this.fit();
  }

  fit() {
    const { left, top, right, bottom } = this.frame ?? NO_FRAME;
    const [w, h] = [this.size[0] + left + right, this.size[1] + top + bottom];
    const room = this.view === "side" ? this.width / 2 : this.width;
    const edge = this.frame ? EDGE + 0.1 * Math.min(this.width, this.height) : EDGE; // room to pull
    this.scale = Math.min((room - 2 * edge) / w, (this.height - 2 * edge) / h, 8);
    this.x = (this.width - w * this.scale) / 2 + left * this.scale;
    this.y = (this.height - h * this.scale) / 2 + top * this.scale;
    this.fitted = true;
    this.draw();
  }

  move(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.keepInSight();
  }

  /** Zoom by a factor; the place (x, y) of the stage stays where it is. */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const least = Math.min(0.05, this.scale);
    const scale = Math.min(32, Math.max(least, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.keepInSight();
  }

  keepInSight() {
    const [w, h] = this.size.map((side) => side * this.scale);
    this.x = Math.min(this.width - 48, Math.max(48 - w, this.x));
    this.y = Math.min(this.height - 48, Math.max(48 - h, this.y));
    this.fitted = false;
    this.draw();
  }

  /** The picture's point under a place of the stage. */
  point(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  /** Whether a place of the stage is on the picture. */
  covers(x, y) {
    const [px, py] = this.point(x, y);
    return px >= 0 && py >= 0 && px < this.size[0] && py < this.size[1];
  }

  /** The picture's point that is nearest to a place of the stage. */
  nearest(x, y) {
    return this.point(x, y).map((value, i) => Math.min(this.size[i] - 1, Math.max(0, value)));
  }

  /** Draw with the next frame, once, however often it is asked for. */
  draw() {
    this.waiting ||= requestAnimationFrame(() => {
      this.waiting = 0;
      this.paint();
    });
  }

  paint() {
    const { context, ratio } = this;
    this.onScale(this.scale);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = getComputedStyle(this.canvas).backgroundColor;
    context.fillRect(0, 0, this.width, this.height);
    if (!this.size || !this.after) return;
    if (this.holding) this.layer(this.holding, this.holdingBox);
    else if (this.patch) this.patched();
    else this[this.before || this.view === "result" ? this.view : "result"]();
  }

  patched() {
    const { bitmap, box } = this.patch;
    this.layer(this.after);
    this.piece(bitmap, this.context, box);
  }

  result() {
    this.layer(this.after);
    if (this.frame) {
      this.framed();
      return;
    }
    if (this.mask && !this.hidesMask) this.masked();
    if (this.outline) this.outlined();
    for (const mark of this.marks) this.marked(...mark);
    if (this.cursor) this.ring(...this.cursor);
  }

  slider() {
    const at = this.split * this.width;
    this.clipped(0, at, 0, () => this.layer(this.before, this.beforeBox));
    this.clipped(at, this.width, 0, () => this.layer(this.after));
  }

  side() {
    const half = this.width / 2;
    this.clipped(0, half - 1, -half / 2, () => this.layer(this.before, this.beforeBox));
    this.clipped(half + 1, this.width, half / 2, () => this.layer(this.after));
  }

  difference() {
    if (this.changes) this.layer(this.changes);
  }

  clipped(left, right, shift, draw) {
    const { context } = this;
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, this.height);
    context.clip();
    context.translate(shift, 0);
    draw();
    context.restore();
  }

  /** A picture in its place, over a chequered ground where it is transparent. */
  layer(levels, box = null) {
    const { context, scale } = this;
    const [x, y, w, h] = box ?? [0, 0, ...this.size];
    context.fillStyle = chequers(context);
    // A pixel smaller, so that none of it shows at the edges of a picture that hides it.
    context.fillRect(this.x + x * scale + 1, this.y + y * scale + 1, w * scale - 2, h * scale - 2);
    // From device pixels up to which a copy is sharp; pixels show as such when far enlarged.
    const source = levels.at(scale * this.ratio);
    context.imageSmoothingEnabled = scale * this.ratio < 3;
    this.piece(source, context, [x, y, w, h]);
  }

  /** Left, top, right and bottom of the frame in the stage. */
  framePlace() {
    const { left, top, right, bottom } = this.frame;
    const [w, h] = this.size;
    const place = (value, from) => from + value * this.scale;
    return [place(-left, this.x), place(-top, this.y), place(w + right, this.x), place(h + bottom, this.y)];
  }

  /** The border that the picture will get, and handles to pull. */
  framed() {
    const { context, scale } = this;
    const [left, top, right, bottom] = this.framePlace();
    context.beginPath();
    context.rect(left, top, right - left, bottom - top);
    context.rect(this.x, this.y, this.size[0] * scale, this.size[1] * scale);
    context.globalAlpha = 0.6;
    context.fillStyle = chequers(context);
    context.fill("evenodd");
    context.globalAlpha = 1;
    context.beginPath();
    context.rect(left, top, right - left, bottom - top);
    this.twoTone();
    const [across, down] = [(left + right) / 2, (top + bottom) / 2];
    for (const [x, y] of [[left, top], [across, top], [right, top], [left, down], [right, down], [left, bottom], [across, bottom], [right, bottom]]) {
      context.beginPath();
      context.rect(x - 5, y - 5, 10, 10);
      context.fillStyle = "#fff";
      context.fill();
      this.twoTone();
    }
  }

  masked() {
    const { context, look, width, height } = this;
    context.save();
    context.globalAlpha = look.outline ? 1 : 0.55;
    context.imageSmoothingEnabled = true;
    if (look.colour || look.outline) context.drawImage(this.tinted(), 0, 0, width, height);
    else this.piece(this.mask.canvas);
    context.restore();
  }

  /** What is seen of the mask, or its edge alone, in a colour of one's own. */
  tinted() {
    const { canvas, look, ratio } = this;
    this.veil ??= new OffscreenCanvas(1, 1);
    Object.assign(this.veil, { width: canvas.width, height: canvas.height });
    const paint = this.veil.getContext("2d");
    const at = (dx, dy) => {
      paint.setTransform(ratio, 0, 0, ratio, dx * ratio, dy * ratio);
      this.piece(this.mask.canvas, paint);
    };
    if (look.outline) {
      for (let turn = 0; turn < 8; turn += 1) at(2 * Math.cos((turn * Math.PI) / 4), 2 * Math.sin((turn * Math.PI) / 4));
      paint.globalCompositeOperation = "destination-out";
    }
    at(0, 0);
    paint.globalCompositeOperation = "source-in";
    paint.fillStyle = look.colour ?? COLOUR;
    paint.fillRect(0, 0, this.width, this.height);
    return this.veil;
  }

  /** The part of a source that can be seen, drawn where the picture is. */
  piece(source, context = this.context, [x, y, w, h] = [0, 0, ...this.size]) {
    const { scale } = this;
    const [fromX, fromY] = [this.x + x * scale, this.y + y * scale];
    const margin = this.width / 2; // for views that shift it
    const left = Math.max(0, Math.floor((-margin - fromX) / scale));
    const top = Math.max(0, Math.floor(-fromY / scale));
    const right = Math.min(w, Math.ceil((this.width + margin - fromX) / scale));
    const bottom = Math.min(h, Math.ceil((this.height - fromY) / scale));
    if (right <= left || bottom <= top) return;
    const [fx, fy] = [source.width / w, source.height / h];
    context.drawImage(
      source,
      left * fx, top * fy, (right - left) * fx, (bottom - top) * fy,
      fromX + left * scale, fromY + top * scale, (right - left) * scale, (bottom - top) * scale,
    );
  }

  outlined() {
    const { context } = this;
    context.beginPath();
    for (const [x, y] of this.outline) context.lineTo(this.x + x * this.scale, this.y + y * this.scale);
    context.closePath();
    context.fillStyle = "rgb(255 45 111 / 25%)";
    context.fill();
    this.twoTone();
  }

  /** A plus where the thing is, a minus where it is not. */
  marked(px, py, inside) {
    const { context } = this;
    const [x, y] = [this.x + px * this.scale, this.y + py * this.scale];
    context.beginPath();
    context.arc(x, y, 8, 0, 7);
    context.fillStyle = inside ? "#127a3a" : "#a8123f";
    context.fill();
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    context.moveTo(x - 4, y);
    context.lineTo(x + 4, y);
    if (inside) {
      context.moveTo(x, y - 4);
      context.lineTo(x, y + 4);
    }
    context.stroke();
  }

  ring(x, y, radius) {
    this.context.beginPath();
    this.context.arc(x, y, Math.max(2, radius), 0, 7);
    this.twoTone();
  }

  /** Stroke so that it is seen on light and on dark. */
  twoTone() {
    const { context } = this;
    for (const [style, width] of [["rgb(0 0 0 / 55%)", 3], ["#fff", 1.25]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.stroke();
    }
  }
}

let pattern = null;

function chequers(context) {
  if (!pattern) {
    const tile = Object.assign(document.createElement("canvas"), { width: 16, height: 16 });
    const paint = tile.getContext("2d");
    paint.fillStyle = "#fff";
    paint.fillRect(0, 0, 16, 16);
    paint.fillStyle = "#d9d9d9";
    paint.fillRect(0, 0, 8, 8);
    paint.fillRect(8, 8, 8, 8);
    pattern = context.createPattern(tile, "repeat");
  }
  return pattern;
}
