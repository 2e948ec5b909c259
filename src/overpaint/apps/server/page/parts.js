// Fields for the parts of an edit that have no control of their own: as the server lists them, with its help.

import { base64, picture, title } from "./api.js";
import { $, make } from "./dom.js";

const ELSEWHERE = new Set(["prompt", "mask"]); // written and painted in places of their own
const FILES = new Set(["picture", "pictures", "mask"]);

const fields = {}; // name -> its field; words stay when another model comes and goes

const partsOf = (model) => model.parts.filter(({ name }) => !ELSEWHERE.has(name));

/** Show a field for each part that the model takes: words and numbers, and files. */
export function render(model) {
  const parts = model ? partsOf(model) : [];
  const isFile = ({ kind }) => FILES.has(kind);
  $("#words").replaceChildren(...parts.filter((part) => !isFile(part)).map(field));
  $("#files").replaceChildren(...parts.filter(isFile).map(field));
}

function field(part) {
  if (FILES.has(part.kind)) fields[part.name] = fileField(part);
  else fields[part.name] ??= wordsField(part);
  inputOf(part).required = part.need === "required";
  return fields[part.name];
}

const inputOf = ({ name }) => fields[name].querySelector("input");

function fileField({ name, kind, help }) {
  return make("label", { className: "field" }, make("span", { textContent: `${title(name)}: ${help}` }),
    make("input", { type: "file", id: `part-${name}`, accept: "image/png,image/jpeg,image/webp", multiple: kind === "pictures" }));
}

function wordsField({ name, kind, help }) {
  return make("label", { className: "field" }, make("span", { textContent: title(name) }),
    make("input", { type: kind === "number" ? "number" : "text", id: `part-${name}`, maxLength: 8000, placeholder: help, autocomplete: "off" }));
}

/** What was given, by the part's name, as `/v1` wants it. */
export async function values(model) {
  const given = {};
  for (const part of partsOf(model)) {
    const input = inputOf(part);
    if (FILES.has(part.kind)) {
      const files = await Promise.all([...input.files].map(base64));
      if (files.length) given[part.name] = part.kind === "pictures" ? files : files[0];
    } else if (input.value.trim()) {
      given[part.name] = part.kind === "number" ? input.valueAsNumber : input.value.trim();
    }
  }
  return given;
}

/** Take over what a turn was given: words, numbers and files. */
export async function reuse(model, turn) {
  for (const part of partsOf(model)) {
    const input = inputOf(part);
    if (FILES.has(part.kind)) input.files = await filesOf(part.name, turn);
    else input.value = turn[part.name] ?? "";
  }
}

async function filesOf(name, turn) {
  const transfer = new DataTransfer();
  for (const path of [turn.inputs[name] ?? []].flat()) {
    const file = await picture(path);
    transfer.items.add(new File([file], `${name}.png`, { type: file.type }));
  }
  return transfer.files;
}
