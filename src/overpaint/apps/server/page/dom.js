// The document: finding, making, telling.

export const $ = (selector) => document.querySelector(selector);

/** An element with properties, attributes and listeners (`onclick`). */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.startsWith("aria")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Show the icon of that name, or the one that the page names, in a button. */
export function setIcon(button, name) {
  const svg = button.querySelector("[data-icon]");
  svg.setAttribute("aria-hidden", "true");
  svg.innerHTML = `<use href="/page/icons.svg#${name ?? svg.dataset.icon}"/>`;
}
for (const svg of document.querySelectorAll("[data-icon]")) setIcon(svg.parentElement);

let noticeEnds = 0;

/** A sentence that something went wrong, or a calm one; it goes after a while, unless it stays. */
export function complain(sentence, { stays = false, calm = false } = {}) {
  clearTimeout(noticeEnds);
  $("#notice").classList.toggle("calm", calm);
  $("#notice-words").textContent = sentence;
  $("#notice").hidden = false;
  if (!stays) noticeEnds = setTimeout(() => hush(), 12000);
}

/** Take the sentence away; only this one, where one is named. */
export function hush(sentence = $("#notice-words").textContent) {
  if ($("#notice-words").textContent === sentence) $("#notice").hidden = true;
}

/** A sentence for those who listen to the page. */
export function tell(sentence) {
  $("#told").textContent = sentence;
}

/** Run what may fail; its error becomes a sentence. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    // That the server is silent is said for as long as it is, by `connection.js`.
    if (error.name === "AbortError" || error.status === 0) return undefined;
    complain(error.sentence ?? `Something went wrong in this page: ${error.message}.`);
    return undefined;
  }
}

/** Hand bytes to the browser's downloads. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** A name that every file system takes. */
export function fileName(text, ending) {
  const plain = text.replace(/[^\p{L}\p{N} ._-]+/gu, "_").replace(/^\.+/, "").trim();
  return `${plain.slice(0, 80) || "picture"}.${ending}`;
}
