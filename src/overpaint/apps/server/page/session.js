// The session that is open: its pictures, its head, and the way back and forth.

import * as api from "./api.js";
import { differenceOf } from "./difference.js";
import { attempt, tell } from "./dom.js";
import * as drafts from "./drafts.js";
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

/** Begin a session with a picture file, which is shown while it is on its way to the server. */
export async function create(file) {
  const levels = await Levels.of(file).catch(() => null); // the server reads more kinds of files
  const larger = levels && state.limits && levels.width * levels.height > state.limits.max_megapixels * 1e6;
  if (larger) await createFitting(file, levels);
  else await send(file, levels);
}

/** A picture over the server's limit: at the limit, or a window of it, as its owner wants. */
async function createFitting(file, levels) {
  const larger = await import("./larger.js");
  const fitting = await larger.ask(file, levels);
  levels.close();
  if (!fitting) return;
  await send(fitting.file, await Levels.of(fitting.file));
  if (fitting.window) await larger.keep(state.session.id, file, fitting.window);
}

/** Send a picture to the server; its levels, if the browser can read it, are shown meanwhile. */
async function send(file, levels) {
  const before = state.session?.id;
  if (levels) glance(levels);
  tell("Opening the picture.");
  const name = (file.name || "Pasted picture").replace(/\.\w+$/, "").slice(0, 200);
  try {
    const session = await api.sessions.create(file, name);
    if (levels) decoded.set(session.turns[0].picture, Promise.resolve(levels));
    await adopt(session);
  } catch (error) {
    if (levels) await (before ? open(before) : set({ session: null, opening: false }));
    throw error;
  } finally {
    set({ opening: false });
  }
}

/** Show a picture that is not in a session yet. */
function glance(levels) {
  close();
  set({ opening: true });
  Object.assign(viewport, { after: levels, view: "result" });
  viewport.open(levels.width, levels.height);
}

/** Begin a session with the archive of one that was exported. */
export async function load(archive) {
  await adopt(await api.sessions.load(archive));
}

/** Open a session of the server, if it is still wanted once it is there. */
export async function open(id, isWanted = () => true) {
  const session = await api.sessions.get(id);
  if (isWanted()) await adopt(session);
}

async function adopt(session) {
  drafts.flush();
  blank();
  set({ session, mask: null });
  if (location.hash !== `#${session.id}`) history.pushState(null, "", `#${session.id}`);
  document.title = `${session.name || "Untitled"} · Overpaint`;
  await show();
  if (state.session?.id === session.id) await drafts.restore(session.id, state.mask);
}

/** Leave the session: back to the start. */
export function close() {
  drafts.flush();
  blank();
  for (const levels of decoded.values()) Promise.resolve(levels).then((each) => each.close(), () => {});
  decoded.clear();
  document.title = "Overpaint";
  set({ session: null, mask: null });
}

/** Show nothing, so that nothing is drawn that is about to leave memory. */
function blank() {
  forgetChanges();
  Object.assign(viewport, { after: null, before: null, holding: null, mask: null, size: null });
  viewport.draw();
}

/** Take over what the server says now, unless that is known: new turns, another head. */
export async function refresh(revision = -1) {
  const shown = state.session;
  if (!shown) return;
  if (revision === shown.revision + 1) {
    set({ session: { ...shown, revision } }); // by our own change
    return;
  }
  const session = await api.sessions.get(shown.id);
  if (state.session?.id !== shown.id || session.revision === state.session.revision) return;
  set({ session });
  await show();
}

/** Show a turn of the session; the next edit goes on from there. The mask stays, or is another's. */
export async function moveTo(id, { withMaskOf = null, keepsMask = false } = {}) {
  set({ session: await moved(id) });
  await show();
  if (!keepsMask) freshMask();
  if (withMaskOf?.mask) state.mask.load(await maskOf(withMaskOf));
  tell(`${nameOf(turnOf(id))} is shown.`);
}

async function moved(id) {
  try {
    return await api.sessions.moveHead(state.session, id);
  } catch (error) {
    if (error.code !== "conflict") throw error;
    return api.sessions.moveHead(await api.sessions.get(state.session.id), id); // changed elsewhere
  }
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
  else if (state.session?.redo) await moveTo(state.session.redo, { keepsMask: state.mask?.canUndo });
}

export const canUndo = () => Boolean(state.mask?.canUndo || state.session?.undo);
export const canRedo = () => Boolean(state.mask?.canRedo || state.session?.redo);

/** After an edit: its turn is the head, and the mask has done its work, unless it was another's. False where it is not open. */
export async function arrived(id, keepsMask) {
  await refresh();
  if (state.session?.id !== id) return false;
  if (!keepsMask) freshMask();
  return true;
}

/** Wait for what is measured after a result is shown. */
export async function measures(id) {
  const turn = head();
  for (let wait = 500; wait < 20000 && turn?.parent && !turn.measures?.previous; wait *= 1.5) {
    await new Promise((wake) => setTimeout(wake, wait));
    if (state.session?.id !== id || head()?.id !== turn.id) return;
    const { revision, turns } = await api.sessions.get(id);
    const found = turns.find((each) => each.id === turn.id);
    if (state.session?.id !== id || revision !== state.session.revision) return;
    if (found.measures?.previous) {
      set({ session: { ...state.session, turns } });
      return;
    }
  }
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
  if (turn.parent === null) return "Original";
  const kind = { erase: "erased", inpaint: "inpainted", edit: "edited", extend: "extended" }[turn.kind] ?? turn.kind;
  return `${numberOf(turn)}, ${turn.prompt ? `“${turn.prompt}”` : kind}`;
}

/** "Turn 2", or "Turn 2 candidate 3" for one that another was preferred to. */
function numberOf(turn) {
  const { turns } = state.session;
  const best = turn.candidate_of ?? turn.id;
  const number = turns.filter((each) => !each.candidate_of).findIndex((each) => each.id === best);
  if (!turn.candidate_of) return `Turn ${number}`;
  const others = turns.filter((each) => each.candidate_of === best);
  return `Turn ${number} candidate ${others.indexOf(turn) + 2}`;
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

const sameEdit = (a, b) =>
  a.parent === b.parent && a.prompt === b.prompt && a.kind === b.kind &&
  JSON.stringify(a.recipe.inputs) === JSON.stringify(b.recipe.inputs);

/** Results of the same edit as the shown one, in the order in which they came. */
export function candidates() {
  const turn = head();
  return turn?.parent ? state.session.turns.filter((each) => sameEdit(each, turn)) : [];
}

/** The candidate so many places after the shown one, round and round. */
export function candidateAt(step) {
  const turns = candidates();
  return turns.at((turns.indexOf(head()) + step) % turns.length);
}

/** The picture that the shown one is compared with, or null. */
function compared() {
  if (state.against === "original") return original();
  const isAlone = state.against !== "candidate" || candidates().length < 2;
  return isAlone ? turnOf(head()?.parent) : candidateAt(-1);
}

async function show() {
  const turn = head();
  if (!turn) return;
  const after = await levelsOf(turn);
  const other = state.view === "result" ? null : compared();
  const before = other ? await levelsOf(other) : null;
  const changes = before && state.view === "difference" ? await changesOf(before, after, boxOf(other, before)) : null;
  if (turn !== head()) return; // another one came meanwhile
  const resized = viewport.size?.[0] !== after.width || viewport.size?.[1] !== after.height;
  Object.assign(viewport, { after, before, changes, patch: null, view: state.view, beforeBox: other && boxOf(other, before) });
  if (resized || !state.mask) {
    viewport.open(after.width, after.height);
    freshMask();
  }
  viewport.draw();
}

let seen = null; // { before, after, changes }: the difference that was made last

/** Where an earlier turn's picture lies in the shown one, which may have grown since; null = all of it. */
export function boxOf(turn, { width, height }) {
  let [x, y, grew] = [0, 0, false];
  for (let each = head(); each && each !== turn; each = turnOf(each.parent)) {
    const { left = 0, top = 0 } = each.inputs.extend ?? {};
    [x, y, grew] = [x + left, y + top, grew || Boolean(each.inputs.extend)];
  }
  return grew ? [x, y, width, height] : null;
}

async function changesOf(before, after, box) {
  if (seen?.before === before && seen.after === after) return seen.changes;
  forgetChanges();
  tell("Comparing.");
  const changes = await differenceOf(before, after, box);
  seen = { before, after, changes };
  return changes;
}

function forgetChanges() {
  viewport.changes = null;
  seen?.changes.close();
  seen = null;
}

function freshMask() {
  const { width, height } = viewport.after;
  const { id } = state.session;
  const mask = new Mask(width, height, () => {
    viewport.draw();
    set({ mask });
    drafts.keep(id, mask);
  });
  if (state.mask) drafts.forget(id);
  viewport.mask = mask;
  set({ mask });
  viewport.draw();
}
