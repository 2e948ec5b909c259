// A form from a JSON Schema: one field for each option of a model's family.

import { title } from "./api.js";
import { make } from "./dom.js";

const HIDDEN = new Set(["height", "width"]); // they stretch the answer; here it keeps the picture's size

const FIRST = ["num_inference_steps", "guidance_scale", "true_cfg_scale", "strength"]; // what people try first

const rank = ([name]) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);

const SEEN = new Set(["strength", "context", "control_strength"]); // where a person looks for them

/**
 * Fill two places with fields for the schema's properties, those in sight (null = none) and all others.
 * `values` are what was set before.
 */
export function render(sight, place, schema, values, changed) {
  const shown = Object.entries(schema.properties ?? {})
    .filter(([name]) => !HIDDEN.has(name))
    .sort((a, b) => rank(a) - rank(b));
  const fields = (some) => some.map(([name, property]) => field(name, resolved(property, schema), values, changed));
  const isSeen = ([name]) => sight !== null && SEEN.has(name);
  sight?.replaceChildren(...fields(shown.filter(isSeen)));
  place.replaceChildren(...fields(shown.filter((each) => !isSeen(each))));
}

/** A property with its reference followed and its `null` alternative told as `optional`. */
function resolved(property, schema) {
  const reference = property.$ref ?? property.allOf?.[0]?.$ref;
  if (reference) return { ...schema.$defs[reference.split("/").pop()], ...property };
  const others = property.anyOf?.filter((each) => each.type !== "null");
  if (others?.length === 1) return { ...resolved(others[0], schema), ...property, optional: true };
  return property;
}

function field(name, property, values, changed) {
  const about = property.description ?? "";
  const id = `option-${name}`;
  const write = (value) => {
    if (value === undefined || value === property.default) delete values[name];
    else values[name] = value;
    changed();
  };
  const value = values[name] ?? property.default;
  const input = inputFor(property, value, write);
  input.id = id;
  const help = make("small", { className: "faint", id: `${id}-help`, textContent: sentence(about) });
  if (about) input.setAttribute("aria-describedby", help.id);
  const label = make("label", { htmlFor: id, textContent: title(name) });
  const isCheck = property.type === "boolean";
  return make("div", { className: "option" }, ...(isCheck ? [make("div", { className: "check" }, input, label)] : [label, input]), help);
}

const sentence = (words) => words && `${words[0].toUpperCase()}${words.slice(1).replace(/\.$/, "")}.`;

function inputFor(property, value, write) {
  if (property.type === "boolean") {
    return make("input", { type: "checkbox", checked: Boolean(value), onchange: ({ target }) => write(target.checked) });
  }
  if (property.enum) {
    const options = property.enum.map((each) => make("option", { value: String(each), textContent: String(each) }));
    const chosen = make("select", { onchange: ({ target }) => write(property.enum[target.selectedIndex]) }, ...options);
    chosen.selectedIndex = Math.max(0, property.enum.indexOf(value));
    return chosen;
  }
  if (property.type === "integer" || property.type === "number") return numberFor(property, value, write);
  return make("input", {
    type: "text",
    value: value ?? "",
    autocomplete: "off",
    oninput: ({ target }) => write(target.value === "" ? undefined : target.value),
  });
}

function numberFor(property, value, write) {
  const input = make("input", {
    type: "number",
    step: property.type === "integer" ? "1" : "any",
    placeholder: property.optional ? "automatic" : String(property.default ?? ""),
    oninput: () => write(input.value === "" || !input.validity.valid ? undefined : input.valueAsNumber),
  });
  if (property.minimum !== undefined) input.min = property.minimum;
  if (property.maximum !== undefined) input.max = property.maximum;
  if (value !== null && value !== undefined) input.value = value;
  return input;
}
