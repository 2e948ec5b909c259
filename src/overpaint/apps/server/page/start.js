// The start: taking in a picture, and the sessions that there are.

import * as api from "./api.js";
import { $, attempt, make } from "./dom.js";
import { thumbnail } from "./history.js";
import * as session from "./session.js";

const MOST = 24;

export function init() {
  const file = $("#file");
  for (const id of ["#choose", "#open"]) $(id).addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    take(file.files);
    file.value = "";
  });
  document.addEventListener("paste", (event) => take(event.clipboardData?.files));
  let depth = 0; // of elements that a drag has entered
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  document.addEventListener("dragenter", () => mark(1));
  document.addEventListener("dragleave", () => mark(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(-depth);
    take(event.dataTransfer.files);
  });
}

function take(files) {
  const [file] = files ?? [];
  if (file) attempt(() => busy(() => session.create(file)));
}

async function busy(work) {
  $("#drop").setAttribute("aria-busy", "true");
  try {
    await work();
  } finally {
    $("#drop").removeAttribute("aria-busy");
  }
}

/** List the sessions of the server. */
export async function list() {
  const sessions = await api.sessions.list(MOST);
  $("#recent").hidden = sessions.length === 0;
  $("#sessions").replaceChildren(...sessions.map(card));
}

function card({ id, name, turns, thumbnail: path }) {
  const image = make("img", { alt: "", width: 160, height: 120, decoding: "async" });
  attempt(async () => {
    image.src = await thumbnail(path);
  });
  const edits = turns === 1 ? "no edits yet" : turns === 2 ? "1 edit" : `${turns - 1} edits`;
  const label = name || "Untitled";
  const item = make("li", {},
    make("button", { type: "button", className: "card", onclick: () => attempt(() => session.open(id)) },
      image, make("strong", { textContent: label }), make("span", { className: "faint", textContent: edits })),
    make("button", { type: "button", className: "quiet remove", textContent: "Delete", "aria-label": `Delete ${label}`,
      onclick: () => attempt(() => remove(id, label, item)) }));
  return item;
}

async function remove(id, label, item) {
  if (!window.confirm(`Delete “${label}” with all its turns? This cannot be undone.`)) return;
  await api.sessions.remove(id);
  item.remove();
}
