// Adapters of a model: which are on, and how strong. They go along in the model's name.

import { $, make } from "./dom.js";

const JOINT = "+";
const scales = {}; // model -> adapter -> scale, of those that are on

/** Show the adapters that the model may have. */
export function render({ id, adapters }) {
  scales[id] ??= {};
  $("#adapters").hidden = adapters.length === 0;
  $("#adapters-list").replaceChildren(...adapters.map((name) => row(name, scales[id])));
}

function row(name, on) {
  const scale = make("input", { type: "number", min: -2, max: 2, step: 0.05, value: on[name] ?? 1, "aria-label": `Scale of ${name}` });
  const box = make("input", { type: "checkbox", checked: name in on });
  const write = () => {
    if (box.checked && scale.validity.valid) on[name] = scale.valueAsNumber;
    else delete on[name];
  };
  for (const input of [box, scale]) input.addEventListener("input", write);
  return make("li", { className: "row spread" }, make("label", { className: "check" }, box, make("span", { textContent: name })), scale);
}

/** The model's name with the adapters that are on. */
export const named = ({ id }) => [id, ...Object.entries(scales[id] ?? {}).map(([name, scale]) => `${name}@${scale}`)].join(JOINT);

/** The name of the model alone; its adapters are taken over. */
export function taken(name) {
  const [id, ...adapters] = (name ?? "").split(JOINT);
  scales[id] = Object.fromEntries(adapters.map((each) => [each.split("@")[0], Number(each.split("@")[1] ?? 1)]));
  return id;
}
