// Files that come in: chosen, dropped, pasted; a new picture, a session, a mask or a reference.

import { $, attempt } from "./dom.js";
import * as queue from "./queue.js";
import * as parts from "./parts.js";
import * as session from "./session.js";
import { state } from "./state.js";

export function init() {
  document.addEventListener("paste", (event) => offer(event.clipboardData?.files));
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
    offer(event.dataTransfer.files);
  });
}

function offer(files) {
  const [file, ...others] = files ?? [];
  if (others.length && state.session) {
    queue.add([file, ...others]); // several pictures can only be more of the same
    return;
  }
  if (others.length) queue.add(others);
  if (file && !document.querySelector("dialog[open]")) attempt(() => place(file));
}

/** Over an open picture a file may be meant for several things: ask. */
async function place(file) {
  if (!state.session || isArchive(file)) return take(file);
  const use = await ask(file);
  if (use === "picture") return take(file);
  if (use === "mask") return addMask(file);
  if (use) return parts.give(use, file);
  return undefined;
}

function ask(file) {
  const dialog = $("#drop-dialog");
  const part = parts.forPictures();
  $("#drop-title").textContent = `What is ${file.name || "this picture"}?`;
  $("#drop-reference").hidden = !part;
  $("#drop-reference").value = part ?? "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((chosen) => {
    dialog.addEventListener("close", () => chosen(dialog.returnValue), { once: true });
  });
}

const isArchive = (file) => file.type === "application/zip" || /\.zip$/i.test(file.name ?? "");

/** Begin a session with a picture file, or with one that was exported. */
export async function take(file) {
  $("#drop").setAttribute("aria-busy", "true");
  try {
    await (isArchive(file) ? session.load(file) : session.create(file));
  } finally {
    $("#drop").removeAttribute("aria-busy");
  }
}

/** Begin with a picture that comes with the page. */
export async function takeSample(file, name) {
  const answer = await fetch(`/page/${file}`);
  const blob = await answer.blob();
  await take(new File([blob], name, { type: blob.type }));
}

/** Add what a mask file marks. */
export async function addMask(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw Object.assign(new Error(), { sentence: "This browser cannot read that file as a mask. Try a PNG file." });
  }
  state.mask.add(bitmap);
}
