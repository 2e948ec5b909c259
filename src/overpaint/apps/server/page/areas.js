// What an instruction changed, area by area: each can be seen in the picture, and put back or kept.

import { again } from "./candidates.js";
import { $, attempt, make } from "./dom.js";
import { head, on, state } from "./state.js";

let viewport = null;
let shown = null; // the session and the turn whose areas are listed

export function init(shownOn) {
  viewport = shownOn;
  $("#areas-apply").addEventListener("click", () => attempt(apply));
  on(["session", "running"], show);
}

const areasOf = (turn) => turn?.measures?.edit?.areas ?? [];
const boxes = () => [...document.querySelectorAll("#areas-list input")];

function show() {
  const turn = head();
  const now = turn && `${state.session.id} ${turn.id}`;
  if (now !== shown) list(areasOf(turn)); // what is measured later leaves the list as it is
  shown = now;
  for (const box of boxes()) box.disabled = Boolean(state.running);
  follow();
}

function list(areas) {
  outline(null);
  $("#areas").hidden = areas.length === 0;
  const gone = areas.filter(({ kept }) => !kept).length;
  $("#areas-count").textContent = `${areas.length} changed ${areas.length === 1 ? "area" : "areas"}${gone ? `, ${gone} put back` : ""}`;
  $("#areas-list").replaceChildren(...areas.map(row));
}

function row(area, index) {
  const box = make("input", { type: "checkbox", checked: area.kept, onchange: follow });
  const share = 100 * area.share;
  const words = ` Area ${index + 1}, ${share.toFixed(share < 1 ? 2 : 0)} % of the picture${area.kept ? "" : ", put back"}`;
  const seen = () => outline(area.box);
  const unseen = () => outline(null);
  const label = make("label", { onpointerenter: seen, onpointerleave: unseen }, box, words);
  box.addEventListener("focus", seen);
  box.addEventListener("blur", unseen);
  return make("li", {}, label);
}

/** Whether there is something to do: other areas are ticked than the turn has. */
function follow() {
  const areas = areasOf(head());
  const isOther = boxes().some((box, i) => box.checked !== areas[i]?.kept);
  $("#areas-apply").disabled = !isOther || Boolean(state.running);
}

function outline(box) {
  const [left, top, right, bottom] = box ?? [];
  viewport.outline = box && [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]];
  viewport.draw();
}

/** The same edit with the ticked areas, and without the others. */
async function apply() {
  const numbers = boxes().flatMap((box, i) => (box.checked ? [i + 1] : []));
  const turn = head();
  await again({ seed: turn.seed, num_images: 1, options: { ...turn.options, keep_areas: numbers } });
}
