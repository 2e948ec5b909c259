// One edit, from the button to its turn: what is sent, what is told on the way, how it is stopped.
// An edit belongs to its session: it goes on there when the page shows another one.

import * as api from "./api.js";
import { $, attempt, complain, hush, tell } from "./dom.js";
import * as panel from "./panel.js";
import * as session from "./session.js";
import { head, on, set, state } from "./state.js";
import { Levels } from "./viewport.js";

const PREVIEWS = 4;
const VERDICT = /^(Nothing|Most of the picture) changed/;
const FIRST = { erase: "First paint over what should go.", other: "First paint where it should be." };
const UNDER_WAY = "overpaint.edits"; // session -> { edit, turns, … }, for all tabs and for a reload

const sending = new Set(); // sessions whose edit is on its way to the server
let following = null; // { session, leave }: the edit that is listened to
let viewport = null;

export function init(shownOn) {
  viewport = shownOn;
  on(["mask"], () => Object.values(FIRST).forEach((sentence) => hush(sentence)));
  on(["session"], () => {
    const id = state.session?.id;
    if (state.running && state.running.session !== id) leave();
    if (!state.running && underWay()[id]) progress(id, { told: "Still working" }); // until `resume`
  });
}

/** Edits under way by their session: `{ edit, turns, keepsMask }`, turns as many as there were before. */
export const underWay = () => JSON.parse(localStorage.getItem(UNDER_WAY) ?? "{}");

function remember(id, news) {
  const { [id]: _, ...others } = underWay();
  const all = news ? { ...others, [id]: news } : others;
  if (Object.keys(all).length) localStorage.setItem(UNDER_WAY, JSON.stringify(all));
  else localStorage.removeItem(UNDER_WAY);
}

/** Do what the panel says. */
export async function run() {
  if (state.running || !state.session) return;
  hush();
  const { body, mask } = await panel.request();
  const empty = state.mask.isEmpty;
  if (empty && mask === "required") {
    throw Object.assign(new Error(), { sentence: FIRST[state.task] ?? FIRST.other });
  }
  await send(empty || mask === "refused" ? body : { ...body, mask: state.mask.sent(), fit_mask: true });
}

/** Send an edit of the open session, and follow it. `keepsMask`: it leaves the mask that is painted. */
export async function send(body, { keepsMask = false } = {}) {
  const shown = state.session;
  const edit = await begin(shown, body, keepsMask);
  if (state.session?.id === shown.id) await follow(shown.id, edit);
}

async function begin(shown, body, keepsMask) {
  sending.add(shown.id);
  scrollTo({ top: 0 }); // on a phone, where the panel is below the picture
  progress(shown.id, { told: "Sending" });
  try {
    if (body.mask && typeof body.mask !== "string") body.mask = await api.base64(await body.mask);
    const { id } = await accepted(shown, { parent: shown.head, ...body, previews: PREVIEWS, measure_later: true });
    remember(shown.id, { edit: id, turns: shown.turns.length, keepsMask, whole: body.from_original });
    return id;
  } catch (error) {
    end(shown.id);
    throw error;
  } finally {
    sending.delete(shown.id);
  }
}

async function accepted(shown, body) {
  let answer;
  try {
    answer = await api.sessions.edit(shown, body);
  } catch (error) {
    if (error.code !== "conflict") throw error;
    // Another tab was here first: the edit still follows the picture that was looked at.
    answer = await api.sessions.edit(await api.sessions.get(shown.id), body);
    tell("The session was changed elsewhere; this edit continues from the picture that you saw.");
  }
  // The session moves on with the edit's beginning, so that nobody begins another unawares.
  if (state.session?.id === shown.id) await session.refresh(answer.revision);
  return answer;
}

/** Listen again to the edit of the open session that is still under way, if there is one. */
export async function resume() {
  const id = state.session?.id;
  if (!id || following) return;
  const edit = underWay()[id]?.edit;
  if (sending.has(id)) progress(id, { told: "Sending" });
  else if (edit) await follow(id, edit);
}

async function follow(id, edit) {
  const line = new AbortController();
  following = { session: id, leave: () => line.abort() };
  progress(id, { edit, told: "Preparing" });
  try {
    for await (const [name, data] of api.events(edit, { signal: line.signal, whole: underWay()[id]?.whole })) await hear(id, name, data);
    finish(id);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 0) {
      progress(id, { told: "Waiting for the server" });
      following = null; // it is taken up again when the server answers
      return;
    }
    const { turns = -1, keepsMask } = underWay()[id] ?? {}; // -1: another tab took note of its end
    finish(id);
    if (error.status !== 404) throw error;
    await lookFor(id, turns, keepsMask);
  }
}

/** The server knows an edit no more: it is done, or was lost when the server stopped. */
async function lookFor(id, turns, keepsMask) {
  await session.refresh();
  if (state.session?.id !== id) return;
  if (state.session.turns.length > turns) await done(id, {}, keepsMask);
  else complain("The server stopped before this edit was finished. Your mask is still here: try again.", { stays: true });
}

async function hear(id, name, data) {
  if (name === "queued") progress(id, { told: place(data.position) });
  if (name === "step") progress(id, { told: `Step ${data.step} of ${data.total}`, ...data });
  if (name === "preview") await preview(id, data);
  if (name === "error") await session.refresh(); // the session stands where it stood before
  if (name === "error" && data.error.code === "cancelled") tell("Cancelled.");
  else if (name === "error") throw new api.Fault(500, data.error);
  if (name === "done") {
    progress(id, { told: "Finishing" });
    await done(id, data, underWay()[id]?.keepsMask);
  }
}

async function done(id, data, keepsMask) {
  if (!(await session.arrived(id, keepsMask))) return;
  panel.showSeed(head()?.seed);
  const turn = head();
  if (turn && turn.verdict !== "done") complain(turn.warnings.find((each) => VERDICT.test(each)) ?? "");
  tell(`Done. ${(data.warnings ?? []).join(" ")}`);
  attempt(() => session.measures(id)); // the edit is over; nobody waits for this
}

const place = (position) =>
  position > 0 ? `Waiting, ${position} ${position === 1 ? "edit" : "edits"} before this one` : "Next in the queue";

/** An unfinished picture, or the part of it that changes: that is drawn over the picture. */
async function preview(id, { image, left, top }) {
  const blob = api.fromBase64(image);
  const isPart = left !== undefined;
  const shown = isPart ? await createImageBitmap(blob) : await Levels.of(blob);
  if (state.running?.session !== id) return;
  if (isPart) Object.assign(viewport, { patch: { bitmap: shown, box: [left, top, shown.width, shown.height] }, mask: null });
  else Object.assign(viewport, { holding: shown, holdingBox: null, mask: null });
  viewport.draw();
}

/** Stop the edit that is under way in the open session. */
export async function cancel() {
  if (!state.running?.edit) return;
  const { session: id, edit } = state.running;
  progress(id, { told: "Cancelling" });
  await api.cancel(edit);
}

function progress(id, news) {
  if (state.session?.id !== id) return;
  const running = { session: id, ...state.running, ...news };
  set({ running });
  const bar = $("#progress-bar");
  $("#run").hidden = true;
  $("#progress").hidden = false;
  $("#progress-told").textContent = running.told ?? "";
  $("#cancel").disabled = !running.edit;
  if (running.total) Object.assign(bar, { max: running.total, value: running.step });
  else bar.removeAttribute("value");
}

/** The edit goes on, the page looks elsewhere. */
function leave() {
  following?.leave();
  following = null;
  hide();
}

function finish(id) {
  remember(id, null);
  if (following?.session === id) following = null;
  end(id);
}

function end(id) {
  if (state.running?.session === id) hide();
}

function hide() {
  Object.assign(viewport, { holding: null, patch: null });
  viewport.mask = state.mask;
  viewport.draw();
  $("#run").hidden = false;
  $("#progress").hidden = true;
  $("#progress-bar").removeAttribute("value");
  set({ running: null });
}
