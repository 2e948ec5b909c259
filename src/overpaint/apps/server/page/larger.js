// A picture over the server's limit: edited at the limit, or in a window of it that fits.

import * as blobs from "./blobs.js";
import { $, make } from "./dom.js";
import { head, state } from "./state.js";

const EDGE = 64; // pixels, of the smallest window
const ENCODED = 4 / 3; // base64
const STEP = 0.02; // of the preview, that an arrow key moves the window

/**
 * Ask what to do with a picture that is too large.
 * Gives `{ file, window }` to begin a session with, window null = the whole picture; or null.
 */
export async function ask(file, levels) {
  const factor = Math.sqrt((state.limits.max_megapixels * 1e6) / (levels.width * levels.height));
  const small = { width: Math.floor(levels.width * factor), height: Math.floor(levels.height * factor) };
  $("#large-facts").textContent =
    `${file.name || "This picture"} has ${millions(levels)} megapixels (${size(levels)}). This server takes ${state.limits.max_megapixels}.`;
  $("#large-all").textContent = `Edit all of it, at ${size(small)}`;
  const chosen = await choose(levels, small);
  if (!chosen) return null;
  const all = { x: 0, y: 0, width: levels.width, height: levels.height };
  const [part, to] = chosen === "all" ? [all, small] : [chosen, chosen];
  return { file: await encode(levels.full, part, to, file.name), window: chosen === "all" ? null : part };
}

const millions = ({ width, height }) => ((width * height) / 1e6).toFixed(1);
const size = ({ width, height }) => `${width} × ${height}`;

/** Show the picture; a drag draws the window, an arrow key moves it. "all", a window, or null. */
async function choose(levels, start) {
  const dialog = $("#large-dialog");
  const canvas = $("#large-canvas");
  let window = { x: Math.floor((levels.width - start.width) / 2), y: Math.floor((levels.height - start.height) / 2), ...start };
  dialog.returnValue = "";
  dialog.showModal();
  const scale = Math.min(canvas.parentElement.clientWidth / levels.width, (0.5 * innerHeight) / levels.height);
  Object.assign(canvas, { width: Math.round(levels.width * scale), height: Math.round(levels.height * scale) });
  const draw = (next) => {
    window = next;
    paint(canvas, levels, window, scale);
    $("#large-window").textContent = `Edit this window at full size: ${size(window)}`;
  };
  const heard = new AbortController();
  dragging(canvas, scale, levels, draw, heard.signal);
  canvas.addEventListener("keydown", (event) => {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    draw(placed({ ...window, x: window.x + dx * STEP * levels.width, y: window.y + dy * STEP * levels.height }, levels));
  }, { signal: heard.signal });
  draw(window);
  const choice = await new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue), { once: true }));
  heard.abort();
  return choice === "window" ? window : choice || null;
}

function dragging(canvas, scale, levels, draw, signal) {
  let from = null;
  const at = ({ offsetX, offsetY }) => [offsetX / scale, offsetY / scale];
  canvas.addEventListener("pointerdown", (event) => {
    from = at(event);
    canvas.setPointerCapture(event.pointerId);
  }, { signal });
  canvas.addEventListener("pointermove", (event) => {
    if (from) draw(between(from, at(event), levels));
  }, { signal });
  canvas.addEventListener("pointerup", () => {
    from = null;
  }, { signal });
}

/** The window between two points: within the picture, and no larger than the server takes. */
export function between([x0, y0], [x1, y1], levels) {
  let [width, height] = [Math.max(EDGE, Math.abs(x1 - x0)), Math.max(EDGE, Math.abs(y1 - y0))];
  const factor = Math.min(1, Math.sqrt((state.limits.max_megapixels * 1e6) / (width * height)));
  width = Math.floor(Math.min(width * factor, levels.width));
  height = Math.floor(Math.min(height * factor, levels.height));
  return placed({ x: x1 < x0 ? x0 - width : x0, y: y1 < y0 ? y0 - height : y0, width, height }, levels);
}

const placed = ({ x, y, width, height }, levels) => ({
  x: Math.round(Math.min(levels.width - width, Math.max(0, x))),
  y: Math.round(Math.min(levels.height - height, Math.max(0, y))),
  width,
  height,
});

function paint(canvas, levels, { x, y, width, height }, scale) {
  const context = canvas.getContext("2d");
  context.drawImage(levels.at(scale), 0, 0, canvas.width, canvas.height);
  context.fillStyle = "rgb(0 0 0 / 55%)";
  context.beginPath();
  context.rect(0, 0, canvas.width, canvas.height);
  context.rect(x * scale, y * scale, width * scale, height * scale);
  context.fill("evenodd");
  context.strokeStyle = "#fff";
  context.lineWidth = 2;
  context.strokeRect(x * scale, y * scale, width * scale, height * scale);
}

/** A part of a picture as a file that the server takes: PNG, or JPEG where that would be too many bytes. */
async function encode(source, part, to, name) {
  const canvas = make("canvas", { width: to.width, height: to.height });
  const paint = canvas.getContext("2d");
  paint.imageSmoothingQuality = "high";
  paint.drawImage(source, part.x, part.y, part.width, part.height, 0, 0, to.width, to.height);
  const most = (state.limits.max_body_mb * 1e6) / ENCODED - 1e5;
  const png = await blobOf(canvas, "image/png");
  const blob = png.size <= most ? png : await blobOf(canvas, "image/jpeg", 0.97);
  return new File([blob], name || "picture", { type: blob.type });
}

const blobOf = (canvas, type, quality) => new Promise((done) => canvas.toBlob(done, type, quality));

/** Keep the whole picture for a session that edits a window of it. */
export const keep = (session, file, window) => blobs.put(session, "whole", { file, window });

/** The whole picture, with the shown turn in its window, as a PNG; null where the session has no window. */
export async function whole(levelsOf) {
  const kept = await blobs.get(state.session.id, "whole");
  if (!kept) return null;
  const turn = await levelsOf(head());
  if (turn.width !== kept.window.width || turn.height !== kept.window.height) return null; // it was extended
  const picture = await createImageBitmap(kept.file);
  const canvas = make("canvas", { width: picture.width, height: picture.height });
  const paint = canvas.getContext("2d");
  paint.drawImage(picture, 0, 0);
  paint.drawImage(turn.full, kept.window.x, kept.window.y);
  picture.close();
  return blobOf(canvas, "image/png");
}
