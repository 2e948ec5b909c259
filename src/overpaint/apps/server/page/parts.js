// Fields for the parts of an edit that have no control of their own: as the server lists them, with
// its help. Files belong to the session in which they were given.

import { base64, picture, title } from "./api.js";
import * as blobs from "./blobs.js";
import { $, attempt, make, tell } from "./dom.js";
import { on, state } from "./state.js";

const ELSEWHERE = new Set(["prompt", "mask"]); // written and painted in places of their own
const FILES = new Set(["picture", "pictures", "mask"]);

/** Files that a picture may come from; names help where the system knows no type. */
export const PICTURES = "image/*,.heic,.heif,.avif,.tif,.tiff";

const fields = {}; // name -> its field; words stay when another model comes and goes
const files = new Map(); // session -> part -> its files; they are kept in the browser, too
let model = null;

export function init() {
  let shown;
  on(["session"], () => {
    if (shown === state.session?.id) return;
    shown = state.session?.id;
    render(model);
    if (shown && !files.has(shown)) attempt(() => restore(shown));
  });
}

const partsOf = (each) => each.parts.filter(({ name }) => !ELSEWHERE.has(name));
const isFile = ({ kind }) => FILES.has(kind);

/** Show a field for each part that the model takes: words and numbers, and files. */
export function render(now) {
  model = now;
  const parts = model ? partsOf(model) : [];
  $("#words").replaceChildren(...parts.filter((part) => !isFile(part)).map(field));
  $("#pictures").replaceChildren(...parts.filter((part) => isFile(part) && part.kind !== "mask").map(field));
  $("#files").replaceChildren(...parts.filter(({ kind }) => kind === "mask").map(field));
}

function field(part) {
  if (isFile(part)) fields[part.name] = fileField(part);
  else fields[part.name] ??= wordsField(part);
  inputOf(part).required = part.need === "required";
  if (isFile(part)) show(part.name, filesOf(part.name));
  return fields[part.name];
}

const inputOf = ({ name }) => fields[name].querySelector("input");

function fileField({ name, kind, help }) {
  const input = make("input", { type: "file", id: `part-${name}`, accept: PICTURES, multiple: kind === "pictures",
    onchange: () => put(name, [...input.files]) });
  return make("div", { className: "field" },
    make("label", { className: "field" }, make("span", { textContent: `${title(name)}: ${help}` }), input),
    make("ul", { className: "given", "aria-label": title(name) }));
}

const filesOf = (name) => files.get(state.session?.id)?.[name] ?? [];

/** The files that an earlier visit left with a session. */
async function restore(id) {
  const kept = await blobs.get(id, "parts");
  if (!kept || files.has(id)) return;
  files.set(id, kept);
  if (state.session?.id === id) render(model);
}

/** Give a part its files, and show them with their names; each can be taken away. */
function put(name, given) {
  const id = state.session?.id;
  if (id && (given.length || filesOf(name).length)) {
    files.set(id, { ...files.get(id), [name]: given });
    attempt(() => blobs.put(id, "parts", files.get(id)));
  }
  show(name, given);
}

function show(name, given) {
  const transfer = new DataTransfer();
  for (const file of given) transfer.items.add(file);
  fields[name].querySelector("input").files = transfer.files;
  fields[name].querySelector("ul").replaceChildren(...given.map((file) => chip(name, file)));
}

function chip(name, file) {
  const url = URL.createObjectURL(file);
  const image = make("img", { alt: "", width: 32, height: 32, onload: () => URL.revokeObjectURL(url), src: url });
  const remove = make("button", { type: "button", className: "quiet", textContent: "Remove", "aria-label": `Remove ${file.name}`,
    onclick: () => put(name, filesOf(name).filter((each) => each !== file)) });
  return make("li", {}, image, make("span", { textContent: file.name }), remove);
}

/** The name of the part that takes several pictures, such as references; null = there is none. */
export const forPictures = () => model?.parts.find(({ kind }) => kind === "pictures")?.name ?? null;

/** Add a file to a part, as where it was dropped. */
export function give(name, file) {
  $("#more").open = true;
  put(name, [...filesOf(name), file]);
  tell(`${file.name} is added.`);
}

function wordsField({ name, kind, help }) {
  return make("label", { className: "field" }, make("span", { textContent: title(name) }),
    make("input", { type: kind === "number" ? "number" : "text", id: `part-${name}`, maxLength: 8000, placeholder: help, autocomplete: "off" }));
}

/** What was given, by the part's name, as `/v1` wants it. */
export async function values(each) {
  const given = {};
  for (const part of partsOf(each)) {
    const input = inputOf(part);
    if (isFile(part)) {
      const encoded = await Promise.all(filesOf(part.name).map(base64));
      if (encoded.length) given[part.name] = part.kind === "pictures" ? encoded : encoded[0];
    } else if (input.value.trim()) {
      given[part.name] = part.kind === "number" ? input.valueAsNumber : input.value.trim();
    }
  }
  return given;
}

/** Take over what a turn was given: words, numbers and files. */
export async function reuse(each, turn) {
  for (const part of partsOf(each)) {
    if (isFile(part)) put(part.name, await filesOfTurn(part.name, turn));
    else inputOf(part).value = turn[part.name] ?? "";
  }
}

function filesOfTurn(name, turn) {
  const paths = [turn.inputs[name] ?? []].flat();
  return Promise.all(paths.map(async (path) => {
    const file = await picture(path);
    return new File([file], `${name}.png`, { type: file.type });
  }));
}
