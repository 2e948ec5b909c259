// The history: a tree of thumbnails, a column for each turn, a row for each branch.

import * as api from "./api.js";
import { $, attempt, make } from "./dom.js";
import { levelsOf, moveTo, nameOf } from "./session.js";
import { head, on, state } from "./state.js";

const COLUMN = 84;
const ROW = 66;
const SVG = "http://www.w3.org/2000/svg";

const thumbnails = new Map(); // address -> promise of an object URL

export function init() {
  on(["session"], draw);
}

/** Place every turn: depth is the column; a first child stays in its parent's row. */
export function layout(turns) {
  const children = new Map();
  for (const turn of turns) {
    if (!children.has(turn.parent)) children.set(turn.parent, []);
    children.get(turn.parent).push(turn);
  }
  const placed = [];
  let rows = 0;
  const rest = (children.get(null) ?? []).map((turn) => [turn, 0, null]).reverse();
  while (rest.length) {
    const [turn, column, from] = rest.pop();
    // The first child goes on in the row of its parent, which was placed right before it.
    const follows = from && placed.at(-1)?.turn === from.turn;
    if (!follows && placed.length) rows += 1;
    const here = { turn, column, row: rows, from };
    placed.push(here);
    for (const child of (children.get(turn.id) ?? []).toReversed()) rest.push([child, column + 1, here]);
  }
  return { placed, rows: rows + 1 };
}

function shown() {
  const { turns } = state.session;
  const needed = new Set([head()?.id, ...turns.map((turn) => turn.parent)]);
  // Candidates that nobody chose are shown in the panel, not here.
  return turns.filter((turn) => !turn.candidate_of || turn.is_kept || needed.has(turn.id));
}

function draw() {
  const tree = $("#tree");
  if (!state.session) {
    if (tree.hasChildNodes()) forget(); // else they are the start's
    tree.replaceChildren();
    return;
  }
  const { placed, rows } = layout(shown());
  const columns = 1 + Math.max(...placed.map(({ column }) => column));
  tree.style.width = `${columns * COLUMN}px`;
  tree.style.height = `${rows * ROW - 6}px`;
  tree.replaceChildren(lines(placed, columns, rows), make("ol", {}, ...placed.map(node)));
  tree.querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function lines(placed, columns, rows) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("width", columns * COLUMN);
  drawing.setAttribute("height", rows * ROW);
  drawing.setAttribute("aria-hidden", "true");
  for (const { column, row, from } of placed) {
    if (!from) continue;
    const line = document.createElementNS(SVG, "path");
    const [x0, y0] = [from.column * COLUMN + 72, from.row * ROW + 28];
    const [x1, y1] = [column * COLUMN, row * ROW + 28];
    const middle = x0 + 6;
    line.setAttribute("d", row === from.row ? `M${x0} ${y0}H${x1}` : `M${x0} ${y0}H${middle}V${y1 - 5}q0 5 5 5H${x1}`);
    drawing.append(line);
  }
  return drawing;
}

function node({ turn, column, row, from }) {
  const current = turn.id === state.session.head;
  const words = `${nameOf(turn)}${from ? `, after ${nameOf(from.turn).split(",")[0].toLowerCase()}` : ""}`;
  const item = make("li", {}, button(turn, words, current));
  item.style.left = `${column * COLUMN}px`;
  item.style.top = `${row * ROW}px`;
  return item;
}

/** A turn as a small picture that leads to it. */
export function button(turn, words, current) {
  const image = make("img", { alt: "", width: 72, height: 56, decoding: "async" });
  attempt(async () => {
    image.src = await thumbnail(turn.thumbnail);
  });
  const it = make("button", { type: "button", className: "thumb", title: words, "aria-label": words,
    onclick: () => attempt(() => go(turn)) }, image);
  if (current) it.setAttribute("aria-current", "true");
  return it;
}

async function go(turn) {
  if (turn.id === state.session.head || state.running) return;
  levelsOf(turn); // fetched while the server moves the head
  await moveTo(turn.id, { keepsMask: true });
}

/** The object URL of a thumbnail; pictures need the key, so `src` alone would not do. */
export function thumbnail(path) {
  if (!thumbnails.has(path)) {
    const url = api.picture(path).then((blob) => URL.createObjectURL(blob));
    url.catch(() => thumbnails.delete(path));
    thumbnails.set(path, url);
  }
  return thumbnails.get(path);
}

function forget() {
  // Later: a picture that is still on its way would be missed.
  for (const url of thumbnails.values()) url.then((old) => setTimeout(() => URL.revokeObjectURL(old), 10000), () => {});
  thumbnails.clear();
}
