// The start: taking in a picture, and the sessions that there are.

import * as api from "./api.js";
import * as blobs from "./blobs.js";
import { $, attempt, make } from "./dom.js";
import { thumbnail } from "./history.js";
import * as intake from "./intake.js";
import { underWay } from "./run.js";
import { state } from "./state.js";

const MOST = 24; // of a page of the list
const ALL = 1000; // that are searched
const EVERY = 1000; // ms between looks at edits under way

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const over = new Set(); // edits that are known to have ended
let shown = 0;
let watching = 0;

export function init() {
  const file = $("#file");
  for (const id of ["#choose", "#open"]) $(id).addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    const [first] = file.files;
    if (first) attempt(() => intake.take(first));
    file.value = "";
  });
  $("#sample").addEventListener("click", () => attempt(() => intake.takeSample("sample.webp", "Sample photo")));
  $("#sample-scene").addEventListener("click", () => attempt(() => intake.takeSample("scene.png", "Sample scene")));
  $("#further").addEventListener("click", () => attempt(async () => add(await page(shown))));
  $("#search").addEventListener("input", () => attempt(search));
}

/** Sessions that were deleted here; a list that was asked for before may still have them. */
const gone = new Set();

/** List the sessions of the server. */
export async function list() {
  const sessions = await page(0);
  $("#recent").hidden = sessions.length === 0;
  $("#first").hidden = sessions.length > 0;
  $("#search-field").hidden = sessions.length <= MOST;
  $("#search").value = "";
  $("#sessions").replaceChildren();
  shown = 0;
  add(sessions);
}

/** One more than are shown, which says whether there are more. */
const page = (from) => api.sessions.list(MOST + 1, from);

function add(sessions) {
  $("#further").hidden = sessions.length <= MOST;
  const these = sessions.slice(0, MOST);
  shown += these.length;
  $("#sessions").append(...these.filter(({ id }) => !gone.has(id)).map(card));
  watch();
}

async function search() {
  const words = $("#search").value.trim().toLowerCase();
  if (!words) {
    await list();
    return;
  }
  const all = await api.sessions.list(ALL);
  if ($("#search").value.trim().toLowerCase() !== words) return; // more was written meanwhile
  $("#further").hidden = true;
  $("#sessions").replaceChildren(...all.filter(({ name }) => name.toLowerCase().includes(words)).map(card));
}

function card({ id, name, turns, updated, thumbnail: path }) {
  const image = make("img", { alt: "", width: 160, height: 120, decoding: "async" });
  attempt(async () => {
    image.src = await thumbnail(path);
  });
  const edits = turns === 1 ? "no edits yet" : turns === 2 ? "1 edit" : `${turns - 1} edits`;
  const label = name || "Untitled";
  const item = make("li", {},
    make("button", { type: "button", className: "card", onclick: () => {
      location.hash = id;
    } },
      image, make("strong", { textContent: label }),
      make("span", { className: "faint about", textContent: edits }),
      make("span", { className: "faint day", textContent: day.format(new Date(updated)) })),
    make("button", { type: "button", className: "quiet remove", textContent: "Delete", "aria-label": `Delete ${label}`,
      onclick: () => attempt(() => remove(id, label, item)) }));
  item.dataset.session = id;
  return item;
}

/** Say on the cards which edits are under way, until none is, or the start is left. */
function watch() {
  clearTimeout(watching);
  watching = setTimeout(() => attempt(look), 0);
}

async function look() {
  const edits = Object.entries(underWay());
  let ended = false;
  let open = false;
  for (const [id, { edit }] of edits) {
    if (state.session) return; // nobody sees the cards, and the edit may be cancelled now
    const item = document.querySelector(`[data-session="${id}"]`);
    if (!item || over.has(edit)) continue;
    const job = await api.edit(edit).catch((error) => ({ status: error.status === 404 ? "gone" : "silent" }));
    if (["queued", "running", "silent"].includes(job.status)) {
      open = true;
    } else {
      ended = true;
      over.add(edit);
    }
    say(item, job);
  }
  if (state.session) return;
  if (ended) await list();
  else if (open) watching = setTimeout(() => attempt(look), EVERY);
}

function say(item, { status, step, total }) {
  const words = { queued: "Working: waiting", running: total ? `Working: step ${step} of ${total}` : "Working" }[status];
  if (words) item.querySelector(".about").textContent = words;
}

async function remove(id, label, item) {
  if (!window.confirm(`Delete “${label}” with all its turns? This cannot be undone.`)) return;
  await api.sessions.remove(id);
  gone.add(id);
  await blobs.forget(id);
  item.remove();
  $(`#sessions [data-session="${id}"]`)?.remove(); // of a list that came meanwhile
}
