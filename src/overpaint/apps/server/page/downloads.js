// Files of the shown turn: in the original's format, in others, on the clipboard.

import * as api from "./api.js";
import * as blobs from "./blobs.js";
import { $, attempt, complain, fileName, save, tell } from "./dom.js";
import * as session from "./session.js";
import { head, on, original, state } from "./state.js";

const ENDINGS = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" };
const WRITTEN = ["JPEG", "WEBP"]; // of the formats that originals have; all others become PNG
const UNSEEN = 40; // dB from which on nobody sees a difference

export function init() {
  $("#download").addEventListener("click", () => attempt(() => download()));
  for (const button of document.querySelectorAll("[data-format]")) {
    button.addEventListener("click", () => attempt(() => download(button.dataset.format)));
  }
  $("#copy-picture").addEventListener("click", () => attempt(copy));
  $("#download-whole").addEventListener("click", () => attempt(downloadWhole));
  $("#downloads-box").addEventListener("beforetoggle", () => attempt(async () => {
    $("#download-whole").hidden = !(await blobs.get(state.session.id, "whole"));
  }));
  on(["session"], () => {
    const own = original()?.format;
    $("#download").title = `Download this picture as ${WRITTEN.includes(own) ? own : "PNG"} (D)`;
  });
}

const name = (ending) => fileName(`${state.session.name || "picture"} ${state.session.turns.indexOf(head())}`, ending);

/** Download the shown turn; without a format as the original came. */
async function download(format) {
  $("#downloads-box").hidePopover();
  const { blob, psnr } = await api.download(head(), format);
  save(blob, name(ENDINGS[blob.type]));
  if (psnr === null) return;
  const seen = psnr >= UNSEEN ? "nobody sees the difference" : "fine detail may differ";
  complain(`JPEG at quality 95 keeps most of it (${psnr} dB): ${seen}. PNG keeps every pixel.`, { calm: true });
}

/** Put the picture on the clipboard, as PNG: browsers take nothing else there. */
async function copy() {
  $("#downloads-box").hidePopover();
  if (!window.ClipboardItem || !navigator.clipboard) {
    throw Object.assign(new Error(), { sentence: "This browser copies pictures only from pages with HTTPS or from this machine." });
  }
  await navigator.clipboard.write([new ClipboardItem({ "image/png": api.picture(head().picture) })]);
  tell("The picture is on the clipboard.");
  complain("The picture is on the clipboard.", { calm: true });
}

/** Download the picture that the session's window was cut from, with the result in it. */
async function downloadWhole() {
  $("#downloads-box").hidePopover();
  const { whole } = await import("./larger.js");
  const blob = await whole(session.levelsOf);
  if (blob) save(blob, fileName(`${state.session.name || "picture"} whole`, "png"));
}
