// The session that is open: its pictures, its head, and the way back and forth.

import * as api from "./api.js";
import { attempt, tell } from "./dom.js";
import { Mask } from "./mask.js";
import { head, on, original, set, state, turnOf } from "./state.js";
import { Levels } from "./viewport.js";

const MOST_PICTURES = 4; // of 24 megapixels each, that stay decoded

const decoded = new Map(); // address of a picture -> its levels, or their promise
let viewport = null;

export function init(shownOn) {
  viewport = shownOn;
  on(["view", "against"], () => attempt(show));
}

/** Begin a session with a picture file. */
export async function create(file) {
  if (!/^image\/(png|jpeg|webp)$/.test(file.type)) {
    throw Object.assign(new Error(), {
      sentence: "That is not a picture this page can open; give a PNG, JPEG or WebP file.",
    });
  }
  tell("Opening the picture.");
  const name = (file.name || "Pasted picture").replace(/\.\w+$/, "").slice(0, 200);
  await adopt(await api.sessions.create(file, name));
}

/** Open a session of the server. */
export async function open(id) {
  await adopt(await api.sessions.get(id));
}

async function adopt(session) {
  blank();
  set({ session, mask: null });
  if (location.hash !== `#${session.id}`) history.pushState(null, "", `#${session.id}`);
  document.title = `${session.name || "Untitled"} · Overpaint`;
  await show();
}

/** Leave the session: back to the start. */
export function close() {
  blank();
  for (const levels of decoded.values()) Promise.resolve(levels).then((each) => each.close(), () => {});
  decoded.clear();
  document.title = "Overpaint";
  set({ session: null, mask: null });
}

/** Show nothing, so that nothing is drawn that is about to leave memory. */
function blank() {
  Object.assign(viewport, { after: null, before: null, holding: null, mask: null, size: null });
  viewport.draw();
}

/** Take over what the server says now: new turns, another head. */
export async function refresh() {
  const shown = state.session;
  if (!shown) return;
  const session = await api.sessions.get(shown.id);
  if (state.session?.id !== shown.id || session.revision === shown.revision) return;
  set({ session });
  await show();
}

/** Show a turn of the session; the next edit goes on from there. */
export async function moveTo(id, { withMaskOf = null } = {}) {
  set({ session: await api.sessions.moveHead(state.session, id) });
  await show();
  freshMask();
  if (withMaskOf?.mask) state.mask.load(await maskOf(withMaskOf));
  tell(`${nameOf(turnOf(id))} is shown.`);
}

/** Back by one: a stroke of the mask, else the edit, whose mask is there again. */
export async function undo() {
  if (state.running) return;
  if (state.mask?.canUndo) {
    state.mask.undo();
    return;
  }
  const left = head();
  if (state.session?.undo) await moveTo(state.session.undo, { withMaskOf: left });
}

export async function redo() {
  if (state.running) return;
  if (state.mask?.canRedo) state.mask.redo();
  else if (state.session?.redo) await moveTo(state.session.redo);
}

export const canUndo = () => Boolean(state.mask?.canUndo || state.session?.undo);
export const canRedo = () => Boolean(state.mask?.canRedo || state.session?.redo);

/** After an edit: its turn is the head, and the mask has done its work. */
export async function arrived() {
  await refresh();
  freshMask();
}

/** Put the mask of a turn over the picture again. */
export async function takeMask(turn) {
  const bitmap = await maskOf(turn);
  state.mask.clear();
  state.mask.add(bitmap);
}

const maskOf = async (turn) => createImageBitmap(await api.picture(turn.mask));

/** What people call a turn. */
export function nameOf(turn) {
  const at = state.session.turns.filter((each) => !each.candidate_of).indexOf(turn);
  if (turn.parent === null) return "Original";
  const number = at > 0 ? at : state.session.turns.indexOf(turn);
  const kind = { erase: "erased", inpaint: "inpainted", edit: "edited" }[turn.kind] ?? turn.kind;
  return `Turn ${number}, ${turn.prompt ? `“${turn.prompt}”` : kind}`;
}

/** Levels of a turn's picture, decoded once. */
export function levelsOf(turn) {
  const path = turn.picture;
  const levels = decoded.get(path) ?? api.picture(path).then((blob) => Levels.of(blob));
  decoded.delete(path);
  decoded.set(path, levels);
  levels.catch(() => decoded.delete(path));
  const shown = new Set([head(), original(), turnOf(head()?.parent)].map((each) => each?.picture));
  for (const old of decoded.keys()) {
    if (decoded.size <= MOST_PICTURES) break;
    if (shown.has(old)) continue;
    decoded.get(old).then((each) => each.close(), () => {});
    decoded.delete(old);
  }
  return levels;
}

/** The picture that the shown one is compared with, or null. */
const compared = () => (state.against === "original" ? original() : turnOf(head()?.parent));

async function show() {
  const turn = head();
  if (!turn) return;
  const after = await levelsOf(turn);
  const other = state.view === "result" ? null : compared();
  const before = other ? await levelsOf(other) : null;
  if (turn !== head()) return; // another one came meanwhile
  const resized = viewport.size?.[0] !== after.width || viewport.size?.[1] !== after.height;
  Object.assign(viewport, { after, before, view: state.view });
  if (resized || !state.mask) {
    viewport.open(after.width, after.height);
    freshMask();
  }
  viewport.draw();
}

function freshMask() {
  const { width, height } = viewport.after;
  const mask = new Mask(width, height, () => {
    viewport.draw();
    set({ mask });
  });
  viewport.mask = mask;
  set({ mask });
  viewport.draw();
}
