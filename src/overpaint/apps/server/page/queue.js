// More pictures with the same words: each gets a session of its own, a few are under way at a time.

import * as api from "./api.js";
import { $, attempt, make, tell } from "./dom.js";
import * as panel from "./panel.js";
import { state } from "./state.js";

const AT_ONCE = 2;
const SOON = 2000; // ms until a full server is asked again

let waiting = []; // items that have not begun: { file, said, session, row }
let atWork = 0;

export function init() {
  const files = $("#queue-files");
  $("#more-pictures").addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    add([...files.files]);
    files.value = "";
  });
  $("#queue-run").addEventListener("click", () => attempt(run));
  addEventListener("beforeunload", (event) => {
    if (atWork && waiting.length) event.preventDefault(); // those that have begun go on at the server
  });
}

/** Pictures that the edit is to be done to as well, once its button is pressed. */
export function add(files) {
  const items = files.map((file) => {
    const item = { file, row: make("li", { className: "row spread" }) };
    say(item, "waits");
    return item;
  });
  waiting.push(...items);
  $("#queue-list").append(...items.map(({ row }) => row));
  offer();
}

function offer() {
  const count = waiting.length;
  $("#queue-run").hidden = count === 0 || atWork > 0;
  $("#queue-run").textContent = count === 1 ? "Do it to this picture" : `Do it to these ${count} pictures`;
}

function say(item, words) {
  const { file, row, session } = item;
  const name = session
    ? make("a", { href: `#${session}`, textContent: file.name })
    : make("span", { textContent: file.name });
  row.replaceChildren(name, make("span", { className: "faint", textContent: words }));
}

/** Do what the panel says to all that wait. */
async function run() {
  const { body, mask } = await panel.request();
  const painted = mask !== "refused" && state.mask && !state.mask.isEmpty;
  if (painted) body.mask = await api.base64(await state.mask.file());
  else if (mask === "required") {
    throw Object.assign(new Error(), { sentence: "First paint a mask; all pictures get the same one, so they need the same size." });
  }
  const total = waiting.length;
  await Promise.all(Array.from({ length: AT_ONCE }, () => work(body)));
  tell(`${total} pictures are done.`);
}

async function work(body) {
  atWork += 1;
  offer();
  for (let item = waiting.shift(); item; item = waiting.shift()) {
    try {
      await one(item, body);
    } catch (error) {
      say(item, error.sentence ?? error.message);
    }
  }
  atWork -= 1;
  offer();
}

async function one(item, body) {
  say(item, "is sent");
  const session = await patiently(() => api.sessions.create(item.file, item.file.name.replace(/\.\w+$/, "")));
  item.session = session.id;
  const { id } = await patiently(() => api.sessions.edit(session, body));
  for await (const [name, data] of api.events(id)) {
    if (name === "queued") say(item, "in the queue");
    if (name === "step") say(item, `step ${data.step} of ${data.total}`);
    if (name === "error") throw new api.Fault(500, data.error);
  }
  say(item, "done");
}

/** Ask again while the server is full. */
async function patiently(ask) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (error.status !== 429) throw error;
      await new Promise((wake) => setTimeout(wake, SOON));
    }
  }
}
