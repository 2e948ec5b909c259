// The panel: what to do, with which model and options, and what is known of the turn that is shown.

import { $, attempt, make, setIcon } from "./dom.js";
import { render } from "./options.js";
import * as adapters from "./adapters.js";
import * as extend from "./extend.js";
import * as parts from "./parts.js";
import * as session from "./session.js";
import { head, on, set, state } from "./state.js";

const TASKS = {
  erase: {
    does: "Erase",
    hint: "Paint over what should go. What is around it closes the gap; no words needed.",
    fits: ({ mask, prompt }) => mask !== "refused" && prompt !== "required",
  },
  inpaint: {
    does: "Inpaint",
    label: "What should be there",
    hint: "Paint where, and say what. Everything else stays as it is.",
    fits: ({ mask, prompt }) => mask !== "refused" && prompt !== "refused",
  },
  extend: {
    does: "Extend",
    label: "What the border shows (optional)",
    hint: "Pull the edges of the frame outwards, or choose a ratio. No words needed.",
    fits: ({ mask }) => mask !== "refused",
  },
  edit: {
    does: "Edit",
    label: "Instruction",
    hint: "Say what to change. A mask is optional: it keeps the edit inside.",
    fits: ({ mask, prompt }) => mask !== "required" && prompt !== "refused",
  },
};

const chosen = {}; // task -> model
const values = {}; // model -> option -> value, where it is not the default
let seedKept = false;

export function init() {
  for (const radio of document.querySelectorAll("[name=task]")) {
    radio.addEventListener("change", () => set({ task: radio.value }));
  }
  $("#prompt").addEventListener("input", () => {
    // A border with words needs a model that reads them.
    if (state.task === "extend" && $("#model").value !== model()?.id) dress();
  });
  $("#model").addEventListener("change", ({ target }) => {
    chosen[state.task] = target.value;
    describe();
  });
  $("#lock").addEventListener("click", () => keepSeed(!seedKept));
  $("#seed").addEventListener("input", () => keepSeed($("#seed").value !== ""));
  $("#panel").addEventListener("invalid", ({ target }) => {
    const around = target.closest("details");
    if (around) around.open = true;
  }, true);
  on(["task", "models"], dress);
  on(["session"], showTurn);
  on(["pulls", "limits"], () => warnOfDemo(model()));
  $("#pull").addEventListener("click", ({ target }) => attempt(async () => (await library()).pull(target.value)));
  $("#all-models").addEventListener("click", () => attempt(async () => (await library()).open()));
}

/** The models that do a task, demos last. */
const fitting = (task) =>
  state.models.filter(({ accepts }) => TASKS[task].fits(accepts)).sort((a, b) => Number(a.is_demo) - Number(b.is_demo));

/** The model that is chosen for the task. */
export const model = () =>
  fitting(state.task).find(({ id }) => id === chosen[state.task]) ?? preferred(state.task);

/** Inpainting is for models that need a mask; Kontext can, but edits better than it fills. */
function preferred(task) {
  const models = fitting(task);
  const suited = models.filter(({ accepts }) => task !== "inpaint" || accepts.mask === "required");
  if (task === "extend") {
    const words = Boolean($("#prompt").value.trim());
    return models.find(({ accepts }) => (accepts.prompt !== "refused") === words) ?? models[0] ?? null;
  }
  return suited.find(({ is_demo }) => !is_demo) ?? models.find(({ is_demo }) => !is_demo) ?? suited[0] ?? models[0] ?? null;
}

function dress() {
  for (const radio of document.querySelectorAll("[name=task]")) {
    radio.checked = radio.value === state.task;
    radio.disabled = state.models.length > 0 && fitting(radio.value).length === 0;
    radio.closest("label").title = radio.disabled ? "No model for this is served here" : "";
  }
  const { does, label, hint } = TASKS[state.task];
  $("#run").textContent = does;
  $("#task-hint").textContent = hint;
  $("#prompt-field").hidden = !label;
  $("#prompt-label").textContent = label ?? "";
  $("#extend").hidden = state.task !== "extend";
  $("#at-once-field").hidden = state.task !== "erase";
  $("#from-original-field").hidden = state.task !== "edit";
  const now = model()?.id;
  $("#model").replaceChildren(
    ...fitting(state.task).map(({ id, is_demo }) => make("option", { value: id, textContent: is_demo ? `${id} (demo)` : id, selected: id === now })),
  );
  describe();
}

function describe() {
  const now = model();
  $("#model-about").textContent = now ? [now.about, now.licence].filter(Boolean).join(" · ") : "";
  warnOfDemo(now);
  parts.render(now);
  if (!now) return;
  adapters.render(now);
  values[now.id] ??= {};
  const sight = $("#seen-options");
  sight.replaceChildren();
  render(now.accepts.prompt === "refused" ? null : sight, $("#options"), now.options, values[now.id], countChanged);
  countChanged();
}

/** A toy ruins photos: say so where it is chosen, with what brings a real model. */
function warnOfDemo(now) {
  $("#demo").hidden = !now?.is_demo;
  if (!now?.is_demo) return;
  const here = Boolean(state.limits?.can_pull);
  $("#pull-command").textContent = `overpaint pull ${now.real_model}`;
  $("#pull-by-hand").hidden = here;
  $("#pull").hidden = !here;
  const size = now.real_model_gb ? ` (${now.real_model_gb} GB)` : "";
  $("#pull").textContent = `Download ${now.real_model}${size}`;
  $("#pull").value = now.real_model;
  if (here) attempt(() => showPull(now.real_model));
}

async function showPull(name) {
  const { bar } = await library();
  const shown = bar(state.pulls[name]);
  $("#pull").hidden = Boolean(shown);
  $("#pull-progress").replaceChildren(shown ?? "");
}

const library = () => import("./library.js");

function countChanged() {
  const count = Object.keys(values[model().id]).length;
  $("#changed").hidden = count === 0;
  $("#changed").textContent = `${count} changed`;
}

function keepSeed(kept) {
  seedKept = kept && $("#seed").value !== "";
  $("#lock").setAttribute("aria-pressed", String(seedKept));
  setIcon($("#lock"), seedKept ? "locked" : "unlocked");
}

/** How many candidates to make. */
export const count = () => $("#count").valueAsNumber || 1;

/** What to do, as `/v1` wants it, without the mask. */
export async function request() {
  const now = model();
  if (!now) throw say("No model for this task is served here.");
  const body = { model: adapters.named(now), options: values[now.id], num_images: count() };
  if (TASKS[state.task].label) body.prompt = $("#prompt").value.trim();
  if (body.prompt && now.accepts.prompt === "refused") throw say(`“${now.id}” reads no words. Choose another model, or clear the words.`);
  if (now.accepts.prompt === "required" && !body.prompt) {
    $("#prompt").focus();
    throw say(state.task === "edit" ? "First say what to change." : "First say what should be there.");
  }
  if (seedKept) body.seed = $("#seed").valueAsNumber;
  if (state.task === "edit" && $("#from-original").checked) body.from_original = true;
  Object.assign(body, await parts.values(now));
  if (state.task === "extend") return { body: { ...body, ...extend.request(body.options) }, mask: "refused" };
  return { body, mask: now.accepts.mask };
}

const say = (sentence) => Object.assign(new Error(sentence), { sentence });

/** Take over the settings of a turn. */
export async function reuse(turn) {
  const name = adapters.taken(turn.model);
  const used = state.models.find(({ id }) => id === name);
  const task = turn.kind in TASKS ? turn.kind : state.task;
  if (used && TASKS[task].fits(used.accepts)) {
    chosen[task] = used.id;
    const defaults = used.options.properties ?? {};
    const given = Object.entries(turn.options ?? {});
    values[used.id] = Object.fromEntries(
      given.filter(([name, value]) => name in defaults && value !== (defaults[name].default ?? null)),
    );
  }
  $("#prompt").value = turn.prompt ?? "";
  $("#seed").value = turn.seed ?? "";
  set({ task });
  keepSeed(true);
  if (turn.inputs.extend) extend.grow(turn.inputs.extend);
  if (model()) await parts.reuse(model(), turn);
}

/** The seed of the last result, so that it can be kept. */
export function showSeed(seed) {
  if (!seedKept && seed !== null && seed !== undefined) $("#seed").value = seed;
}

// The turn that is shown

function showTurn() {
  const turn = head();
  const edited = Boolean(turn?.parent);
  $("#turn").hidden = !turn;
  if (!turn) return;
  const [name, ...words] = session.nameOf(turn).split(", ");
  $("#turn-title").textContent = name;
  $("#turn-words").textContent = words.join(", ");
  const seed = turn.seed === null || turn.seed === undefined ? null : `seed ${turn.seed}`;
  $("#turn-facts").textContent = edited ? [turn.model, seed, ...measured(turn)].filter(Boolean).join(" · ") : "";
  $("#turn-warnings").replaceChildren(...(turn.warnings ?? []).map((each) => make("li", { textContent: each })));
  for (const id of ["reuse", "copy"]) $(`#${id}`).hidden = !edited;
  $("#reuse-mask").hidden = !turn.mask;
}

function measured({ measures }) {
  const part = measures?.previous?.changed;
  return typeof part === "number" ? [`${(100 * part).toFixed(part < 0.1 ? 1 : 0)} % of the pixels changed`] : [];
}

