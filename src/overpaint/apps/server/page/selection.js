// Selecting a thing: by clicks that say what is part of it and what is not, by a box, or by words.

import * as api from "./api.js";
import { $, complain, make, tell } from "./dom.js";
import * as session from "./session.js";
import { head, on, state } from "./state.js";

const LOOKED_AT = 1024; // longest side of the picture that is sent to find a thing

let viewport = null;
let looked = null; // { picture, blob, scale }: the picture as it is sent
let thing = null; // { mask, from, points, entries }: the thing that clicks are about

export function init(shownOn) {
  viewport = shownOn;
  on(["tool", "mask", "session"], () => {
    $("#select").hidden = state.tool !== "segment";
    $("#size-field").hidden = state.tool === "segment";
    mark();
  });
}

/** What the next click is: "another" thing, "more" of the last one, or "not" part of it. */
const kind = () => $("[name=click]:checked").value;

/** A click at a point of the picture. Shift: more of the last thing; Alt: not part of it. */
export async function click(point, { shift, alt }) {
  const { mask } = state;
  const said = alt ? "not" : shift ? "more" : kind();
  const same = said !== "another" && isAtHand(mask);
  if (!same) thing = { mask, from: mask.done.length, points: [], entries: [] };
  const { from } = thing;
  const points = [...thing.points.slice(0, same ? mask.done.length - from : 0), [...point, !(same && said === "not")]];
  const found = await find({ points: points.map(([x, y, inside]) => ({ x, y, inside })) });
  if (mask !== state.mask || thing.mask !== mask) return;
  // Clicks on one thing: what is found now takes the place of all that was found for it before.
  mask.add(found, { erase: said === "not" && !same, instead: same ? thing.entries[0] : null });
  Object.assign(thing, { points, entries: [...thing.entries.slice(0, points.length - 1), mask.done.at(-1)] });
  mark();
}

/** Whether the last change of the mask was a click on the thing, undone ones left out. */
function isAtHand(mask) {
  const steps = thing?.mask === mask ? mask.done.length - thing.from : 0;
  return steps > 0 && steps <= thing.entries.length && mask.done.at(-1) === thing.entries[steps - 1];
}

/** The thing in a box between two points. */
export async function box([x0, y0], [x1, y1], erase) {
  const { mask } = state;
  const found = await find({ box: [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)] });
  if (mask === state.mask) mask.add(found, { erase });
}

/** Everything of a name. */
export async function words(text) {
  const { mask } = state;
  if (!text) throw Object.assign(new Error(), { sentence: "First say what to select." });
  try {
    const found = await find({ text });
    if (mask === state.mask) mask.add(found);
  } catch (error) {
    if (error.code !== "model_not_found") throw error;
    complain("Selecting by words needs a model that is not installed. “All models” has it, under “Select things”.");
  }
}

async function find({ points, box: sides, text }) {
  const stage = $("#stage");
  stage.setAttribute("aria-busy", "true");
  tell("Looking.");
  try {
    const { blob, scale } = await smallPicture();
    const hints = points
      ? { points: points.map(({ x, y, inside }) => ({ x: x * scale, y: y * scale, inside })) }
      : sides ? { box: sides.map((value) => value * scale) } : { text };
    const found = await createImageBitmap(await api.segment(blob, hints));
    tell("Found and marked.");
    return found;
  } finally {
    stage.removeAttribute("aria-busy");
  }
}

async function smallPicture() {
  const turn = head();
  if (looked?.picture !== turn.picture) {
    const levels = await session.levelsOf(turn);
    const scale = Math.min(1, LOOKED_AT / Math.max(levels.width, levels.height));
    const canvas = make("canvas", {
      width: Math.round(levels.width * scale),
      height: Math.round(levels.height * scale),
    });
    canvas.getContext("2d").drawImage(levels.at(scale), 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    looked = { picture: turn.picture, blob, scale };
  }
  return looked;
}

/** Show the points of the thing while it is selected. */
function mark() {
  const shown = state.tool === "segment" && state.mask && isAtHand(state.mask);
  viewport.marks = shown ? thing.points.slice(0, state.mask.done.length - thing.from) : [];
  viewport.draw();
}
