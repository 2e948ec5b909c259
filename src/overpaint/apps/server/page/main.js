// The page: its parts put together, its buttons wired.

import * as api from "./api.js";
import * as areas from "./areas.js";
import * as candidates from "./candidates.js";
import * as connection from "./connection.js";
import { $, attempt, complain, fileName, hush, save, tell } from "./dom.js";
import * as downloads from "./downloads.js";
import * as extend from "./extend.js";
import * as history from "./history.js";
import * as intake from "./intake.js";
import * as keys from "./keys.js";
import * as panel from "./panel.js";
import * as parts from "./parts.js";
import * as queue from "./queue.js";
import { cancel, init as initRun, resume, run } from "./run.js";
import * as selection from "./selection.js";
import * as session from "./session.js";
import * as stage from "./stage.js";
import * as start from "./start.js";
import { head, on, set, state } from "./state.js";
import { Viewport } from "./viewport.js";

const viewport = new Viewport($("#canvas"));
const click = (id, work) => $(id).addEventListener("click", () => attempt(work));

for (const part of [session, stage, selection, extend, keys]) part.init(viewport);
initRun(viewport);
panel.init();
history.init();
start.init();
intake.init();
parts.init();
downloads.init();
candidates.init(viewport);
areas.init(viewport);
queue.init();

// The bar
click("#home", () => {
  location.hash = "";
});
$("#name").addEventListener("change", ({ target }) =>
  attempt(async () => {
    set({ session: await api.sessions.rename(state.session.id, target.value.trim() || "untitled") });
    document.title = `${state.session.name} · Overpaint`;
  }),
);
for (const radio of document.querySelectorAll("[name=view]")) {
  radio.addEventListener("change", () => stage.setView(radio.value));
}
$("#against").addEventListener("change", ({ target }) => set({ against: target.value }));
click("#help", () => $("#help-dialog").showModal());
click("#notice-close", () => hush());

// Zoom
viewport.onScale = (scale) => {
  $("#zoom-told").textContent = `${Math.round(100 * scale)} %`;
};
click("#zoom-in", () => viewport.zoom(1.25));
click("#zoom-out", () => viewport.zoom(0.8));
click("#zoom-fit", () => viewport.fit());

// Tools and the mask
click("#hide-mask", () => set({ hidesMask: !state.hidesMask }));
on(["hidesMask"], () => {
  $("#hide-mask").setAttribute("aria-pressed", String(state.hidesMask));
  viewport.hidesMask = state.hidesMask;
  viewport.draw();
});
$("#look-colour").addEventListener("input", ({ target }) => set({ look: { ...state.look, colour: target.value } }));
$("#look-outline").addEventListener("change", ({ target }) => set({ look: { ...state.look, outline: target.checked } }));
on(["look"], () => {
  viewport.look = state.look;
  viewport.draw();
  localStorage.setItem("overpaint.look", JSON.stringify(state.look));
});
viewport.look = state.look;
$("#look-colour").value = state.look.colour ?? "#ff2d6f";
$("#look-outline").checked = Boolean(state.look.outline);
for (const button of document.querySelectorAll("[data-tool]")) {
  button.addEventListener("click", () => {
    set({ tool: button.dataset.tool });
    if (state.view !== "result") stage.setView("result");
  });
}
click("#undo", session.undo);
click("#redo", session.redo);
$("#size").addEventListener("input", ({ target }) => keys.setBrush(target.valueAsNumber));
click("#invert", () => state.mask.invert());
click("#clear", () => state.mask.clear());
for (const box of document.querySelectorAll("[popover]")) {
  box.addEventListener("toggle", ({ target, newState }) => {
    if (newState !== "open") return;
    const from = $(`[popovertarget=${target.id}]`).getBoundingClientRect();
    target.style.left = `${Math.max(8, Math.min(from.left, innerWidth - target.offsetWidth - 8))}px`;
    const above = from.top - target.offsetHeight - 10;
    target.style.top = `${above > 0 ? above : from.bottom + 6}px`;
  });
}
const pixels = () => Math.max(1, $("#refine-pixels").valueAsNumber || 1);
click("#grow", () => state.mask.grow(pixels()));
click("#shrink", () => state.mask.grow(-pixels()));
click("#feather", () => state.mask.feather(pixels()));
click("#save-mask", async () => save(await state.mask.file(), fileName(`${state.session.name || "picture"} mask`, "png")));
click("#import", () => $("#mask-file").click());
$("#mask-file").addEventListener("change", ({ target }) =>
  attempt(async () => {
    const [file] = target.files;
    target.value = "";
    if (file) await intake.addMask(file);
  }),
);

// The edit and its turn
$("#panel").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(run);
});
click("#cancel", cancel);
stage.onPainted(() => {
  if (state.task === "erase" && $("#at-once").checked) attempt(run);
});
click("#select-run", () => selection.words($("#select-words").value.trim()));
$("#select-words").addEventListener("keydown", (event) => {
  if (event.key === "Enter") $("#select-run").click();
});
click("#reuse", () => panel.reuse(head()));
click("#reuse-mask", () => session.takeMask(head()));
click("#copy", () => copyFrom($("#copy"), JSON.stringify(head().recipe, null, 2)));
click("#copy-command", () => copyFrom($("#copy-command"), $("#pull-command").textContent));
click("#demo-scene", () => intake.takeSample("scene.png", "Sample scene"));
click("#export", async () => save(await api.sessions.bundle(state.session.id), fileName(state.session.name || "session", "zip")));

/** Copy what a button is for, and say so on it. */
async function copyFrom(button, text) {
  const words = button.textContent;
  await copy(text);
  tell("It is on the clipboard.");
  button.textContent = "Copied";
  setTimeout(() => {
    button.textContent = words;
  }, 1500);
}

async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Only pages of this machine, or with TLS, have a clipboard of their own.
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

// What changes with the state
on(["session", "opening"], () => {
  const open = Boolean(state.session);
  const work = open || state.opening;
  document.body.dataset.screen = work ? "work" : "start";
  document.body.classList.toggle("opening", !open && work);
  $("#start").hidden = work;
  $("#work").hidden = !work;
  $("#panel").hidden = !work;
  $("#panel").inert = !open;
  if (open && document.activeElement !== $("#name")) $("#name").value = state.session.name ?? "";
  $("#views").disabled = !head()?.parent;
  if (work) viewport.resize();
});
on(["session", "mask", "running"], () => {
  $("#undo").disabled = Boolean(state.running) || !session.canUndo();
  $("#redo").disabled = Boolean(state.running) || !session.canRedo();
});
on(["tool", "view", "session", "frame"], () => {
  const paints = stage.viewed() === "result" && !state.frame;
  const moves = stage.viewed() !== "result" || state.tool === "hand";
  const used = paints ? state.tool : moves && "hand";
  $(".pills").hidden = Boolean(state.frame);
  for (const button of document.querySelectorAll("[data-tool]")) {
    // In other views every pointer moves the picture, so that only the hand is lit there.
    const lit = button.dataset.tool === used;
    button.setAttribute("aria-pressed", String(lit));
    button.toggleAttribute("data-off", !paints && !lit);
  }
});
on(["brush"], () => {
  $("#size").value = state.brush;
  $("#size-told").textContent = state.brush;
});
on(["view", "session"], () => {
  for (const radio of document.querySelectorAll("[name=view]")) radio.checked = radio.value === state.view;
  $("#against").disabled = state.view === "result" || !head()?.parent;
});
on(["running"], () => document.body.classList.toggle("running", Boolean(state.running)));

// The key, asked for once however many requests want it
let asking = null;
api.onKeyWanted((wrong) => {
  if (wrong) complain("This server does not know that key.");
  asking ??= askForKey().finally(() => {
    asking = null;
  });
  return asking;
});

function askForKey() {
  const dialog = $("#key-dialog");
  dialog.showModal();
  return new Promise((given) => {
    const close = () => {
      hush();
      given($("#key").value.trim() || null);
      $("#key").value = "";
    };
    dialog.addEventListener("close", close, { once: true });
  });
}

// Addresses: `#id` is a session
async function route() {
  const id = location.hash.slice(1);
  if (id && id !== state.session?.id) {
    try {
      await session.open(id, () => location.hash.slice(1) === id);
      await resume();
      return;
    } catch (error) {
      if (error.status !== 404) throw error;
      complain("That session no longer exists.");
      location.replace("#");
    }
  }
  if (!id) {
    session.close();
    await start.list();
  }
}

async function begin() {
  const [models, limits] = await Promise.all([api.models(), api.limits()]);
  set({ models, limits });
  await route();
}

/** What finished elsewhere, or while the server was away, is found. */
async function catchUp() {
  if (!state.models.length) return begin();
  if (!state.session) return start.list();
  await session.refresh();
  return resume();
}

window.addEventListener("hashchange", () => attempt(route));
window.addEventListener("storage", () => attempt(resume));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !state.running) attempt(() => session.refresh());
});
connection.init(catchUp);
set({ tool: state.tool, brush: state.brush });
attempt(begin);
