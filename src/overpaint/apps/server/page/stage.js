// Pointers on the stage: painting the mask, moving and zooming the picture.

import { $, attempt, complain, make } from "./dom.js";
import * as extend from "./extend.js";
import * as selection from "./selection.js";
import { head, on, set, state } from "./state.js";

const CLICK = 5; // pixels within which a pointer has not moved

const CURSORS = {
  left: "ew-resize", right: "ew-resize", top: "ns-resize", bottom: "ns-resize",
  "left-top": "nwse-resize", "right-bottom": "nwse-resize", "top-right": "nesw-resize", "left-bottom": "nesw-resize",
};

const stage = $("#stage");
const divider = $("#divider");
const pointers = new Map(); // pointers that are down: id -> [x, y]
let viewport = null;
let drag = null; // what the pointer that went down does: { move, end, cancel }
let spaceHeld = false;
let painted = () => {}; // called when a pointer has changed the mask

/** Who is called when a pointer has changed the mask. */
export function onPainted(listener) {
  painted = listener;
}

export function init(shownOn) {
  viewport = shownOn;
  stage.addEventListener("pointerdown", down);
  stage.addEventListener("pointermove", move);
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("pointerleave", () => cursor(null));
  stage.addEventListener("wheel", wheel, { passive: false });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  divider.addEventListener("keydown", slide);
  on(["tool", "view", "running", "session", "frame"], dress);
  on(["view", "session", "against"], compare);
  dress();
}

/** Space pans while it is held. */
export function holdSpace(held) {
  spaceHeld = held;
  dress();
}

/** Whether pointers move the picture: nothing can be painted in this view, or at this moment. */
const pans = () => spaceHeld || state.tool === "hand" || viewed() !== "result" || state.running || !state.mask || state.frame;

/** The view that is shown; the original can be compared with nothing. */
export const viewed = () => (head()?.parent ? state.view : "result");

function dress() {
  stage.dataset.cursor = pans() ? "hand" : state.tool;
  if (pans()) cursor(null);
}

function place(event) {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function down(event) {
  if (!viewport.size || event.target.closest(".zoom")) return;
  if (event.button > 1) return;
  stage.focus({ preventScroll: true });
  stage.setPointerCapture(event.pointerId);
  const at = place(event);
  pointers.set(event.pointerId, at);
  if (pointers.size === 2) {
    drag?.cancel?.();
    drag = pinch();
  } else if (pointers.size === 1) {
    drag = begin(event, at);
  }
  event.preventDefault();
}

function begin(event, at) {
  if (event.target.closest("#divider")) return sliding();
  if (state.frame && !spaceHeld && state.tool !== "hand" && !state.running && viewed() === "result") return extend.take(at) ?? panning(at);
  if (pans() || event.button === 1) return panning(at);
  if (state.hidesMask) set({ hidesMask: false }); // nobody paints unseen
  const erase = state.tool === "eraser" || event.altKey;
  if (state.tool === "brush" || state.tool === "eraser") return painting(at, erase);
  if (state.tool === "lasso") return outlining(at, erase, (points, next) => [...points, next]);
  if (state.tool === "box") return outlining(at, erase, ([first], next) => corners(first, next));
  return finding(at, erase, event.shiftKey);
}

function move(event) {
  const at = place(event);
  if (!pointers.has(event.pointerId)) {
    cursor(at);
    return;
  }
  pointers.set(event.pointerId, at);
  cursor(event.pointerType === "touch" ? null : at);
  const steps = event.getCoalescedEvents?.() ?? [];
  drag?.move(at, steps.length ? steps.map(place) : [at]);
}

function up(event) {
  if (!pointers.delete(event.pointerId)) return;
  if (pointers.size === 0) {
    const ended = drag;
    drag = null;
    if (event.type === "pointercancel") ended?.cancel?.();
    else ended?.end?.();
  }
}

function cursor(at) {
  const paints = state.tool === "brush" || state.tool === "eraser";
  if (at && state.frame && !drag) stage.style.cursor = CURSORS[extend.edges(at).join("-")] ?? "";
  else if (!state.frame) stage.style.cursor = "";
  const shown = at && paints && !pans() && viewport.size;
  viewport.cursor = shown ? [...at, state.brush / 2] : null;
  viewport.draw();
}

/** Show the brush's size, as while it is changed. */
export function showBrush() {
  if (viewport.cursor) viewport.cursor[2] = state.brush / 2;
  viewport.draw();
}

function panning(from) {
  let last = from;
  stage.dataset.cursor = "grabbing";
  return {
    move(at) {
      viewport.move(at[0] - last[0], at[1] - last[1]);
      last = at;
    },
    end: dress,
    cancel: dress,
  };
}

function pinch() {
  const measure = () => {
    const [a, b] = [...pointers.values()];
    return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2, Math.hypot(a[0] - b[0], a[1] - b[1])];
  };
  let last = measure();
  return {
    move() {
      if (pointers.size < 2) return;
      const [x, y, apart] = measure();
      viewport.move(x - last[0], y - last[1]);
      viewport.zoom(apart / Math.max(1, last[2]), x, y);
      last = [x, y, apart];
    },
  };
}

function painting(from, erase) {
  const { mask } = state;
  const width = state.brush / viewport.scale;
  let last = viewport.point(...from);
  mask.stroke(last, last, width, erase);
  return {
    move(_, steps) {
      for (const step of steps) {
        const next = viewport.point(...step);
        mask.stroke(last, next, width, erase);
        last = next;
      }
    },
    end() {
      mask.commit();
      painted();
    },
    cancel: () => mask.abandon(),
  };
}

const corners = ([x0, y0], [x1, y1]) => [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];

function outlining(from, erase, grow) {
  const { mask } = state;
  let points = [viewport.point(...from)];
  const hide = () => {
    viewport.outline = null;
    viewport.draw();
  };
  return {
    move(_, steps) {
      for (const step of steps) points = grow(points, viewport.point(...step));
      viewport.outline = points;
      viewport.draw();
    },
    end() {
      hide();
      if (points.length < 3) return;
      mask.fill(points, erase);
      painted();
    },
    cancel: hide,
  };
}

/** A click finds the thing there, a drag the thing in the box. */
function finding(from, erase, shift) {
  const box = outlining(from, erase, ([first], next) => corners(first, next));
  let to = from;
  return {
    move(at, steps) {
      to = at;
      box.move(at, steps);
    },
    end() {
      box.cancel();
      const far = Math.hypot(to[0] - from[0], to[1] - from[1]) > CLICK;
      if (!viewport.covers(...from) && !far) {
        complain("Click a thing in the picture.");
        return;
      }
      const [a, b] = [from, to].map((at) => viewport.nearest(...at));
      attempt(async () => {
        await (far ? selection.box(a, b, erase) : selection.click(a, { shift, alt: erase }));
        painted();
      });
    },
    cancel: box.cancel,
  };
}

function wheel(event) {
  if (!viewport.size) return;
  event.preventDefault();
  const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
  viewport.zoom(Math.exp(-Math.max(-120, Math.min(120, pixels)) / 300), ...place(event));
}

// Comparing

function compare() {
  const shown = state.view === "slider" && Boolean(head()?.parent);
  divider.hidden = !shown;
  if (shown) splitAt(viewport.split);
  const badges = { slider: ["Before", "After"], side: ["Before", "After"], difference: ["Difference"] };
  const words = head()?.parent ? badges[state.view] ?? [] : [];
  $("#badges").replaceChildren(...words.map((word) => make("span", { textContent: word })));
}

function splitAt(part) {
  viewport.split = Math.min(1, Math.max(0, part));
  divider.style.left = `${100 * viewport.split}%`;
  divider.setAttribute("aria-valuenow", String(Math.round(100 * viewport.split)));
  viewport.draw();
}

function sliding() {
  return { move: (at) => splitAt(at[0] / viewport.width) };
}

function slide(event) {
  const steps = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 };
  const step = steps[event.key];
  if (step === undefined) return;
  splitAt(viewport.split + step);
  event.preventDefault();
  event.stopPropagation();
}

/** Choose how the picture is compared. */
export function setView(view) {
  if (!head()?.parent) return; // the original: there is nothing to compare it with
  set({ view });
  if (viewport.size && viewport.fitted) {
    viewport.view = view;
    viewport.fit();
  }
}
