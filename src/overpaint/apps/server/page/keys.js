// Shortcuts. Letters count where nobody writes; Tab is held to see the original, tapped it goes on.

import { $, attempt, make } from "./dom.js";
import { cancel, run } from "./run.js";
import * as session from "./session.js";
import { original, set, state } from "./state.js";
import { holdSpace, setView, showBrush } from "./stage.js";

const HELD = 220; // ms after which Tab is held, not tapped
const STEP = 60; // pixels that an arrow key moves the picture

let viewport = null;
let tab = null; // { since, back } while Tab is down over the picture
let hovered = false;

const TOOLS = { b: "brush", e: "eraser", l: "lasso", r: "box", s: "segment", h: "hand" };
const VIEWS = { 1: "result", 2: "slider", 3: "side", 4: "difference" };

const SHORTCUTS = [
  ["B  E  L  R  S  H", "brush, eraser, lasso, box, select a thing, hand"],
  ["Alt", "take away instead; with S: not part of the thing"],
  ["Shift", "with S: more of the same thing"],
  ["[  ]", "smaller, larger brush"],
  ["Ctrl+Z  Ctrl+Shift+Z", "undo, redo: strokes first, then edits"],
  ["I  M  Delete", "invert, hide, clear the mask"],
  ["Space", "hold to move the picture"],
  ["Wheel  +  −  0", "zoom in and out, fit"],
  ["Tab", "hold to see the original"],
  ["1  2  3  4", "result, slider, side by side, difference"],
  ["Ctrl+Enter  A", "start; the same once more, with another seed"],
  [",  .  K", "candidate before, next one, keep it"],
  ["Esc", "cancel"],
  ["O  D  ?", "open, download, this list"],
];

export function init(shownOn) {
  viewport = shownOn;
  document.addEventListener("keydown", (event) => attempt(() => down(event)));
  document.addEventListener("keyup", up);
  window.addEventListener("blur", release);
  const stage = $("#stage");
  stage.addEventListener("pointerenter", ({ pointerType }) => {
    hovered = pointerType === "mouse";
  });
  stage.addEventListener("pointerleave", () => {
    hovered = false;
  });
  $("#shortcuts").append(
    ...SHORTCUTS.flatMap(([keys, words]) => [
      make("dt", {}, ...keys.split("  ").map((key) => make("kbd", { textContent: key }))),
      make("dd", { textContent: words }),
    ]),
  );
}

const writes = (target) => target.closest?.("textarea, select, input:not([type=radio], [type=checkbox], [type=range])");

async function down(event) {
  const { key, target } = event;
  if (document.querySelector("dialog[open]")) return undefined;
  if (!state.session) return onStart(event);
  if (key === "Tab") return holdTab(event);
  if ((event.ctrlKey || event.metaKey) && !event.altKey) return withControl(event);
  if (key === "Escape" && state.running) return cancel();
  if (writes(target) || event.ctrlKey || event.metaKey) return undefined;
  const plain = key.toLowerCase();
  if (key === " " && !target.closest("button, summary, label, [role=slider]")) {
    event.preventDefault();
    return holdSpace(true);
  }
  if (target.closest("input, [role=slider]") && /^Arrow|^Home$|^End$/.test(key)) return undefined;
  if (TOOLS[plain]) return set({ tool: TOOLS[plain] });
  if (VIEWS[key]) return setView(VIEWS[key]);
  return simple(event, plain);
}

/** The start page has no picture to work on, so only these two keys do something there. */
function onStart({ key, target, ctrlKey, metaKey, altKey }) {
  if (writes(target) || ctrlKey || metaKey || altKey) return;
  const button = { o: "#open", "?": "#help" }[key.toLowerCase()];
  if (button) press($(button));
}

function withControl(event) {
  const key = event.key.toLowerCase();
  if (key === "enter") {
    event.preventDefault();
    return run();
  }
  if (writes(event.target)) return undefined; // text has its own undo
  const again = key === "y" || (key === "z" && event.shiftKey);
  if (!again && key !== "z") return undefined;
  event.preventDefault();
  return again ? session.redo() : session.undo();
}

function simple(event, key) {
  const [dx, dy] = { arrowleft: [1, 0], arrowright: [-1, 0], arrowup: [0, 1], arrowdown: [0, -1] }[key] ?? [0, 0];
  if (dx || dy) {
    if (event.target.closest("#stage")) {
      event.preventDefault();
      viewport.move(STEP * dx, STEP * dy);
    }
    return;
  }
  const buttons = { a: "#again", k: "#keep", ",": "#flip-back", ".": "#flip-on", i: "#invert", m: "#hide-mask", delete: "#clear", backspace: "#clear", o: "#open", d: "#download", "?": "#help" };
  if (buttons[key]) press($(buttons[key]));
  else if (key === "[") resize(1 / 1.15, -1);
  else if (key === "]") resize(1.15, 1);
  else if (key === "0") viewport.fit();
  else if (key === "+" || key === "=") viewport.zoom(1.25);
  else if (key === "-") viewport.zoom(0.8);
}

/** As with the mouse: what is hidden cannot be pressed. */
function press(button) {
  if (!button.closest("[hidden]")) button.click();
}

function resize(factor, least) {
  setBrush(Math.round(state.brush * factor) === state.brush ? state.brush + least : Math.round(state.brush * factor));
}

/** The brush's diameter in pixels of the screen. */
export function setBrush(diameter) {
  set({ brush: Math.min(200, Math.max(2, diameter)) });
  showBrush();
}

function up(event) {
  if (event.key === " ") holdSpace(false);
  if (event.key !== "Tab" || !tab) return;
  const { since, back } = tab;
  release();
  if (performance.now() - since < HELD) goOn(back);
}

/** Over the picture Tab shows the original while it is down; a short one still moves the focus. */
function holdTab(event) {
  const over = hovered || document.activeElement === $("#stage");
  if (!over || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  if (event.repeat || tab) return;
  tab = { since: performance.now(), back: event.shiftKey };
  const first = original();
  attempt(async () => {
    const levels = first && (await session.levelsOf(first));
    if (!tab || !levels || state.running) return;
    viewport.holding = levels;
    viewport.holdingBox = session.boxOf(first, levels);
    viewport.draw();
  });
}

function release() {
  holdSpace(false);
  if (!tab) return;
  tab = null;
  if (!state.running) viewport.holding = null;
  viewport.draw();
}

function goOn(back) {
  const all = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")];
  const able = all.filter((each) => each.tabIndex >= 0 && !each.disabled && each.checkVisibility({ visibilityProperty: true }));
  const at = able.indexOf(document.activeElement);
  const next = able[(at + (back ? -1 : 1) + able.length) % able.length];
  next?.focus();
}
