// Candidates: results of one mask, one set of words and one starting picture. Flip, keep, more of them.

import * as api from "./api.js";
import { $, attempt, tell } from "./dom.js";
import { button } from "./history.js";
import * as panel from "./panel.js";
import { send } from "./run.js";
import { candidateAt, candidates, levelsOf, moveTo } from "./session.js";
import { head, on, set, state } from "./state.js";

export function init() {
  for (const [id, work] of [["#flip-back", () => flip(-1)], ["#flip-on", () => flip(1)], ["#keep", keep], ["#again", () => again()]]) {
    $(id).addEventListener("click", () => attempt(work));
  }
  on(["session", "running"], show);
  on(["session"], list);
}

function show() {
  const turns = candidates();
  const at = turns.indexOf(head());
  $("#flip").hidden = turns.length === 0;
  for (const id of ["#flip-back", "#flip-on", "#flip-told", "#keep"]) $(id).hidden = turns.length < 2;
  $("#flip-told").textContent = `${at + 1} of ${turns.length}`;
  $("#keep").disabled = !head()?.candidate_of || Boolean(state.running);
  $("#keep").setAttribute("aria-pressed", String(Boolean(head()?.is_kept || !head()?.candidate_of)));
  for (const id of ["#flip-back", "#flip-on", "#again"]) $(id).disabled = Boolean(state.running);
}

function list() {
  const turns = candidates();
  const place = $("#candidates");
  place.hidden = turns.length < 2;
  if (place.hidden) return;
  const label = (each, i) => `Candidate ${i + 1} of ${turns.length}${each.is_kept ? ", kept" : ""}`;
  place.replaceChildren(...turns.map((each, i) => button(each, label(each, i), each === head())));
}

/** Show the next of the candidates, or the one before. */
export async function flip(step) {
  if (candidates().length < 2 || state.running) return;
  levelsOf(candidateAt(2 * step)); // so that the one after comes at once
  await moveTo(candidateAt(step).id, { keepsMask: true });
}

/** Keep the shown candidate as a branch of the history, or no more. */
export async function keep() {
  const turn = head();
  if (!turn?.candidate_of) return;
  const marked = await api.sessions.keep(state.session.id, turn.id, !turn.is_kept);
  const turns = state.session.turns.map((each) => (each.id === turn.id ? marked : each));
  set({ session: { ...state.session, turns } });
  tell(marked.is_kept ? "Kept in the history." : "No longer kept.");
}

/** Make the shown edit once more, with another seed, or with what else is other. */
export async function again(other = {}) {
  const turn = head();
  if (!turn?.parent || state.running) return;
  const body = {
    model: turn.model,
    prompt: turn.prompt,
    options: turn.options,
    num_images: panel.count(),
    parent: turn.parent,
    from_original: turn.from_original,
  };
  const inputs = await Promise.all(Object.entries(turn.inputs).map(async ([name, value]) => [name, await sent(value)]));
  await send({ ...body, ...Object.fromEntries(inputs), ...other }, { keepsMask: true });
}

/** An input of a turn as it is sent: addresses of pictures as their bytes, all else as it is. */
async function sent(value) {
  if (Array.isArray(value)) return Promise.all(value.map(sent));
  const isAddress = typeof value === "string" && value.startsWith("/v1/sessions/");
  return isAddress ? api.base64(await api.picture(value)) : value;
}
