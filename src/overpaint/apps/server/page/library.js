// Models: what the server's machine has, what fits it, and downloads of what it does not have.

import * as api from "./api.js";
import { $, attempt, make, tell } from "./dom.js";
import { on, set, state } from "./state.js";

const EVERY = 700; // ms between looks at a download
const TASKS = { inpaint: "Inpaint", edit: "Edit", erase: "Erase", segment: "Select things" };

const followed = new Set(); // names of models whose download is looked at
let catalogue = null;

on(["pulls"], () => {
  if ($("#models-dialog").open) list();
});

/** Download a model on the server's machine; `state.pulls` says how far it has come. */
export async function pull(name) {
  note(await api.pulls.begin(name));
  await follow(name);
}

const note = (news) => set({ pulls: { ...state.pulls, [news.model]: news } });
const isUnderWay = (news) => ["queued", "running"].includes(news?.status);

async function follow(name) {
  if (followed.has(name)) return;
  followed.add(name);
  try {
    while (isUnderWay(state.pulls[name])) {
      await new Promise((wake) => setTimeout(wake, EVERY));
      note(await api.pulls.get(name));
    }
  } finally {
    followed.delete(name);
  }
  const { status, error } = state.pulls[name];
  if (status === "failed") throw new api.Fault(500, error);
  if (status !== "done") return;
  tell(`${name} is ready.`);
  set({ models: await api.models() });
  if ($("#models-dialog").open) await load();
}

/** Show all models. */
export async function open() {
  await load();
  $("#models-dialog").showModal();
  list();
  for (const { name, pull: news } of catalogue.data) {
    if (!isUnderWay(news)) continue;
    note(news);
    attempt(() => follow(name));
  }
}

async function load() {
  catalogue = await api.catalogue();
  if ($("#models-dialog").open) list();
}

function list() {
  const groups = Object.keys(TASKS).flatMap((task) => {
    const models = catalogue.data.filter((each) => each.task === task);
    return models.length ? [make("h3", { textContent: TASKS[task] }), make("ul", {}, ...models.map(row))] : [];
  });
  $("#models-machine").textContent = `The server runs on ${catalogue.machine}.`;
  $("#models").replaceChildren(...groups);
}

function row(model) {
  const needs = [
    model.size_gb && `${size(model.size_gb)}${model.state === "ready" ? "" : " to download"}`,
    model.memory_gb && `${size(model.memory_gb)} of memory`,
    model.licence,
  ];
  const fit = make("span", { className: model.fits === false ? "unfit" : "faint", textContent: ` · ${model.fit}` });
  return make("li", {},
    make("div", {},
      make("strong", { textContent: model.name + (model.is_recommended ? " (recommended here)" : "") }),
      make("p", { className: "faint", textContent: model.about }),
      make("p", { className: "faint", textContent: needs.filter(Boolean).join(" · ") }, fit)),
    action(model));
}

const size = (gb) => (gb < 0.1 ? `${Math.round(1000 * gb)} MB` : `${gb >= 10 ? Math.round(gb) : gb.toFixed(1)} GB`);

/** What can be done with a model: nothing where it is here, else a download or the command for it. */
function action(model) {
  if (model.is_served) return make("span", { textContent: "Ready" });
  if (model.state === "ready") return make("span", { textContent: model.task === "segment" ? "Ready" : "Here, not served" });
  if (model.must_be_accepted) return make("code", { textContent: `overpaint licence show ${model.name}` });
  if (!state.limits.can_pull) return make("code", { textContent: `overpaint pull ${model.name}` });
  return bar(state.pulls[model.name]) ?? make("button", { type: "button", textContent: "Download", "aria-label": `Download ${model.name}`,
    onclick: () => attempt(() => pull(model.name)) });
}

/** The progress of a download, with a button that stops it; null where none is under way. */
export function bar(news) {
  if (!isUnderWay(news)) return null;
  const { model, bytes_done: done, bytes_total: total } = news;
  const shown = make("progress", { "aria-label": `Download of ${model}` });
  if (total) Object.assign(shown, { max: total, value: done });
  const words = total ? `${size(done / 1e9)} of ${size(total / 1e9)}` : "Starting";
  const stop = make("button", { type: "button", className: "quiet", textContent: "Stop", "aria-label": `Stop the download of ${model}`,
    onclick: () => attempt(() => api.pulls.cancel(model)) });
  return make("div", { className: "pulling" }, make("div", { className: "row spread" }, make("span", { textContent: words }), stop), shown);
}
