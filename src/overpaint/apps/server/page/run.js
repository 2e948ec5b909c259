// One edit, from the button to its turn: what is sent, what is told on the way, how it is stopped.

import * as api from "./api.js";
import { $, complain, hush, tell } from "./dom.js";
import * as panel from "./panel.js";
import * as session from "./session.js";
import { head, set, state } from "./state.js";
import { Levels } from "./viewport.js";

const PREVIEWS = 4;
const UNDER_WAY = "overpaint.edit"; // for this tab, so that a reload finds its edit again

let viewport = null;

export function init(shownOn) {
  viewport = shownOn;
}

/** Do what the panel says. */
export async function run() {
  if (state.running || !state.session) return;
  hush();
  const { body, mask } = await panel.request();
  const empty = state.mask.isEmpty;
  if (empty && mask === "required") {
    throw Object.assign(new Error(), {
      sentence: state.task === "erase" ? "First paint over what should go." : "First paint where it should be.",
    });
  }
  progress({ told: "Sending" });
  try {
    if (!empty && mask !== "refused") body.mask = await api.base64(await state.mask.file());
    const { id } = await send({ ...body, previews: PREVIEWS });
    sessionStorage.setItem(UNDER_WAY, JSON.stringify({ id, session: state.session.id }));
    await follow(id);
  } finally {
    end();
  }
}

async function send(body) {
  try {
    const accepted = await api.sessions.edit(state.session, body);
    // The session moves on with the edit's beginning, so that nobody begins another unawares.
    set({ session: { ...state.session, revision: accepted.revision } });
    return accepted;
  } catch (error) {
    if (error.code !== "conflict") throw error;
    await session.refresh();
    throw Object.assign(new Error(), {
      sentence: "This session was changed elsewhere. It is up to date again: look at it, then try once more.",
    });
  }
}

/** After a reload: listen again to an edit that is still under way. */
export async function resume() {
  const kept = JSON.parse(sessionStorage.getItem(UNDER_WAY) ?? "null");
  if (!kept || kept.session !== state.session?.id || state.running) return;
  progress({ told: "Still working" });
  try {
    await follow(kept.id);
  } catch (error) {
    if (error.status !== 404) throw error; // it ended, and its turn is there
  } finally {
    end();
  }
}

async function follow(edit) {
  const shown = state.session.id;
  progress({ edit, told: "Preparing" });
  for await (const [name, data] of api.events(edit)) {
    if (state.session?.id !== shown) return;
    if (name === "queued") progress({ told: place(data.position) });
    if (name === "step") progress({ told: `Step ${data.step} of ${data.total}`, ...data });
    if (name === "preview") await preview(data.image);
    if (name === "error" && data.error.code === "cancelled") tell("Cancelled.");
    else if (name === "error") throw new api.Fault(500, data.error);
    if (name === "done") await done(data);
  }
}

async function done(data) {
  progress({ told: "Finishing" });
  await session.arrived();
  panel.showSeed(head()?.seed);
  const warning = { nothing_changed: "The model changed nothing.", everything_changed: "Nearly everything changed." };
  const verdict = warning[head()?.verdict];
  if (verdict) complain(verdict);
  tell(`Done. ${(data.warnings ?? []).join(" ")}`);
}

const place = (position) =>
  position > 0 ? `Waiting, ${position} ${position === 1 ? "edit" : "edits"} before this one` : "Next in the queue";

async function preview(image) {
  const levels = await Levels.of(api.fromBase64(image));
  if (!state.running) return;
  Object.assign(viewport, { holding: levels, mask: null });
  viewport.draw();
}

/** Stop the edit that is under way. */
export async function cancel() {
  if (!state.running?.edit) return;
  progress({ told: "Cancelling" });
  await api.cancel(state.running.edit);
}

function progress(news) {
  const running = { ...state.running, ...news };
  set({ running });
  const bar = $("#progress-bar");
  $("#run").hidden = true;
  $("#progress").hidden = false;
  $("#progress-told").textContent = running.told ?? "";
  $("#cancel").disabled = !running.edit;
  if (running.total) Object.assign(bar, { max: running.total, value: running.step });
  else bar.removeAttribute("value");
}

function end() {
  sessionStorage.removeItem(UNDER_WAY);
  viewport.holding = null;
  viewport.mask = state.mask;
  viewport.draw();
  $("#run").hidden = false;
  $("#progress").hidden = true;
  $("#progress-bar").removeAttribute("value");
  set({ running: null });
}
