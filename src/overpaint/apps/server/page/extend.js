// Extend: a frame around the picture that says how far it grows, drawn with the pointer or with numbers.

import { $ } from "./dom.js";
import { on, set, state } from "./state.js";

export const SIDES = ["left", "top", "right", "bottom"];
const REACH = 16; // pixels of the screen within which an edge is taken
const BLEND = 16; // pixels of the picture's own edge that may change, where it need not be kept

let viewport = null;

export function init(shownOn) {
  viewport = shownOn;
  for (const side of SIDES) {
    $(`#extend-${side}`).addEventListener("input", ({ target }) => grow({ ...state.frame, [side]: target.valueAsNumber || 0 }));
  }
  $("#extend-ratio").addEventListener("change", () => grow(reached(nothing(), ratio())));
  on(["task", "mask"], () => {
    const frame = state.task === "extend" && state.mask ? nothing() : null;
    if (Boolean(frame) !== Boolean(state.frame) || state.mask !== framed) grow(frame);
  });
}

let framed = null; // the mask, and so the picture, that the frame is around
const nothing = () => ({ left: 0, top: 0, right: 0, bottom: 0 });

/** The ratio of width to height that the frame keeps; null = any. */
function ratio() {
  const [width, height] = $("#extend-ratio").value.split(":").map(Number);
  return height ? width / height : null;
}

/** The size of the picture with its border. */
const around = ({ left, top, right, bottom }, [width, height] = viewport.size) => [width + left + right, height + top + bottom];

/** Take over a frame, its numbers whole and not below 0. */
export function grow(frame) {
  framed = state.mask;
  const whole = frame && Object.fromEntries(SIDES.map((side) => [side, Math.max(0, Math.round(frame[side] ?? 0))]));
  set({ frame: whole });
  viewport.frame = whole;
  if (!viewport.size) return;
  if (viewport.fitted && !viewport.held) viewport.fit();
  viewport.draw();
  if (!whole) return;
  for (const side of SIDES) if (document.activeElement !== $(`#extend-${side}`)) $(`#extend-${side}`).value = whole[side];
  const [width, height] = around(whole);
  const most = state.limits?.max_megapixels ?? Infinity;
  const over = width * height > most * 1e6 ? `, more than the ${most} megapixels that this server takes` : "";
  $("#extend-size").textContent = `${width} × ${height}${over}`;
}

/** A frame that is grown on one axis, evenly, until it has a ratio. */
function reached(frame, wanted) {
  if (!wanted) return frame;
  const [width, height] = around(frame);
  const across = Math.max(0, Math.round(height * wanted) - width);
  const down = Math.max(0, Math.round(width / wanted) - height);
  const half = Math.floor(across / 2);
  const upper = Math.floor(down / 2);
  return { left: frame.left + half, right: frame.right + across - half, top: frame.top + upper, bottom: frame.bottom + down - upper };
}

/** What a pointer that goes down there does to the frame; null = nothing. */
export function take(at) {
  const sides = edges(at);
  if (!sides.length && !inside(at)) return null;
  const first = { ...state.frame };
  const [x0, y0] = viewport.point(...at);
  viewport.held = true; // the picture stays where it is meanwhile
  const end = () => {
    viewport.held = false;
    if (viewport.fitted) viewport.fit();
  };
  return {
    move(to) {
      const [x, y] = viewport.point(...to);
      grow(sides.length ? pulled(first, sides, x - x0, y - y0) : moved(first, x - x0, y - y0));
    },
    end,
    cancel() {
      grow(first);
      end();
    },
  };
}

/** Left, top, right and bottom of the frame in the stage. */
export const place = () => viewport.framePlace();

/** The sides of the frame that are under a pointer: two at a corner. */
export function edges([x, y]) {
  const [left, top, right, bottom] = place();
  if (x < left - REACH || x > right + REACH || y < top - REACH || y > bottom + REACH) return [];
  const near = { left: Math.abs(x - left), right: Math.abs(x - right), top: Math.abs(y - top), bottom: Math.abs(y - bottom) };
  return SIDES.filter((side) => near[side] <= REACH);
}

function inside([x, y]) {
  const [left, top, right, bottom] = place();
  return x > left && x < right && y > top && y < bottom;
}

function pulled(first, sides, dx, dy) {
  const by = { left: -dx, right: dx, top: -dy, bottom: dy };
  const frame = { ...first };
  for (const side of sides) frame[side] = Math.max(0, first[side] + by[side]);
  return reached(frame, ratio());
}

/** The same frame, the picture at another place in it. */
function moved({ left, top, right, bottom }, dx, dy) {
  const x = Math.min(right, Math.max(-left, Math.round(dx)));
  const y = Math.min(bottom, Math.max(-top, Math.round(dy)));
  return { left: left + x, right: right - x, top: top + y, bottom: bottom - y };
}

/** What an edit that extends says beside its words. */
export function request(options) {
  if (!SIDES.some((side) => state.frame?.[side])) {
    throw Object.assign(new Error(), { sentence: "First pull an edge of the frame outwards, or choose a ratio." });
  }
  const sides = Object.fromEntries(Object.entries(state.frame).filter(([, pixels]) => pixels));
  return { extend: sides, options: $("#extend-keep").checked ? options : { ...options, grow: BLEND } };
}
