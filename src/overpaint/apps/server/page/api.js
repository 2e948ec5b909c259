// The server's `/v1`: requests, the key, events. The only file that knows addresses and bodies.

const KEY = "overpaint.key";
const FIELDS = {
  image: "The picture",
  mask: "The mask",
  prompt: "The prompt",
  model: "The model",
  seed: "The seed",
  num_images: "Candidates",
  box: "The box",
  point: "The point",
};
const STATUSES = {
  401: "This server asks for a key.",
  413: "That is larger than this server accepts.",
  502: "The server cannot be reached through its proxy.",
  504: "That took longer than this server allows.",
};

/** What the server, or the way to it, has to say. */
export class Fault extends Error {
  constructor(status, error = {}) {
    super(error.message ?? `status ${status}`);
    this.status = status;
    this.code = error.code ?? "";
    this.field = error.field ?? null;
  }

  /** One sentence for people. */
  get sentence() {
    if (this.status === 0) {
      return "The server does not answer. Is it still running?";
    }
    if (!this.code) return STATUSES[this.status] ?? `The server answered with status ${this.status}.`;
    const words = this.message.trim().replace(/\.$/, "");
    const field = (this.field ?? "").replace(/^options\./, "");
    const name = FIELDS[field] ?? (field && `“${title(field)}”`);
    return `${name ? `${name}: ${words}` : words[0].toUpperCase() + words.slice(1)}.`;
  }
}

/** A name from a schema as people write it: `num_inference_steps` is `Num inference steps`. */
export function title(name) {
  const words = name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}

let askForKey = async () => null;
let noteSilence = () => {};

/** Who is called when the server does not answer. */
export function onSilence(note) {
  noteSilence = note;
}

/** Whether the server answers again. */
export const answers = () => fetch("/healthz").then(({ ok }) => ok, () => false);

/** Who is asked where the server wants a key: gives the key, or null. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

/** A request; asks for a key where one is missing, and raises `Fault` for what is refused. */
export async function request(method, path, { body, headers = {}, signal } = {}) {
  const key = sessionStorage.getItem(KEY);
  const sent = { ...headers };
  if (key) sent.authorization = `Bearer ${key}`;
  if (body !== undefined) sent["content-type"] = body instanceof Blob ? body.type : "application/json";
  const payload = body === undefined || body instanceof Blob ? body : JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(path, { method, headers: sent, body: payload, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    noteSilence();
    throw new Fault(0);
  }
  if (answer.status === 401) {
    const given = await askForKey(Boolean(key));
    if (given) {
      sessionStorage.setItem(KEY, given);
      return request(method, path, { body, headers, signal });
    }
  }
  if (!answer.ok) throw new Fault(answer.status, await errorOf(answer));
  return answer;
}

async function errorOf(answer) {
  try {
    return (await answer.json()).error ?? {};
  } catch {
    return {};
  }
}

const json = async (...args) => (await request(...args)).json();
const blob = async (...args) => (await request(...args)).blob();

export const models = async () => (await json("GET", "/v1/models")).data;

/** What a request may cost, and whether models can be downloaded from here. */
export const limits = () => json("GET", "/v1/limits");

/** What the server's machine has of models, and what it could fetch. */
export const catalogue = () => json("GET", "/v1/catalogue");

/** The download of a model. */
export const pulls = {
  begin: (name) => json("POST", `/v1/models/${encodeURIComponent(name)}/pull`),
  get: (name) => json("GET", `/v1/models/${encodeURIComponent(name)}/pull`),
  cancel: (name) => request("DELETE", `/v1/models/${encodeURIComponent(name)}/pull`),
};

/** A turn as a file, and what JPEG kept of it in decibels; without a format as the original came. */
export async function download({ picture: path }, format) {
  const query = format ? `?format=${format}` : "";
  const answer = await request("GET", path.replace(/picture$/, `download${query}`));
  const psnr = answer.headers.get("x-overpaint-psnr");
  return { blob: await answer.blob(), psnr: psnr && Number(psnr) };
}

/** The bytes of a picture of the server. */
export const picture = (path, signal) => blob("GET", path, { signal });

export const sessions = {
  list: async (most, from = 0) => (await json("GET", `/v1/sessions?limit=${most}&offset=${from}`)).data,
  get: (id) => json("GET", `/v1/sessions/${id}`),
  create: async (file, name) =>
    json("POST", "/v1/sessions", { body: { name, image: await base64(file) } }),
  rename: (id, name) => json("PATCH", `/v1/sessions/${id}`, { body: { name } }),
  remove: (id) => request("DELETE", `/v1/sessions/${id}`),
  keep: (id, turn, kept) => json("PATCH", `/v1/sessions/${id}/turns/${turn}`, { body: { is_kept: kept } }),
  moveHead: (session, turn) =>
    json("POST", `/v1/sessions/${session.id}/head`, {
      body: { turn },
      headers: { "if-match": `"${session.revision}"` },
    }),
  edit: (session, body) =>
    json("POST", `/v1/sessions/${session.id}/turns`, {
      body: { ...body, async: true },
      headers: { "if-match": `"${session.revision}"` },
    }),
  bundle: (id) => blob("GET", `/v1/sessions/${id}/export`),
  load: (file) => json("POST", "/v1/sessions/import", { body: new Blob([file], { type: "application/zip" }) }),
};

/** How an edit stands: its status, place in the queue, step. */
export const edit = (id) => json("GET", `/v1/edits/${id}`);

export const cancel = (edit) => request("DELETE", `/v1/edits/${edit}`);

/** The mask of what the hints say, as a PNG blob. */
export const segment = async (image, hints) =>
  blob("POST", "/v1/segments", { body: { image: await base64(image), ...hints } });

/**
 * News of an edit, `[name, data]` each, until it is done; a broken line is taken up again.
 * `whole`: previews are whole pictures, not only what changed.
 */
export async function* events(edit, { signal, whole = false } = {}) {
  for (let broken = 0; ; broken += 1) {
    try {
      const answer = await request("GET", `/v1/edits/${edit}/events?changed=${!whole}`, { signal });
      for await (const event of read(answer.body)) {
        broken = 0;
        yield event;
        if (event[0] === "done" || event[0] === "error") return;
      }
      signal?.throwIfAborted();
      if (broken > 5) throw new Fault(0);
    } catch (error) {
      if (error.name === "AbortError" || error.status > 0 || broken > 5) throw error;
    }
    await new Promise((wake) => setTimeout(wake, 1000));
  }
}

async function* read(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = [];
  for (;;) {
    let chunk;
    try {
      chunk = await reader.read();
    } catch {
      return; // the line broke; the reader asks again
    }
    if (chunk.done) return;
    // Joined only where an event ends: previews are long, and come in many pieces.
    rest.push(chunk.value);
    if (!/\n\n|^\n/.test(chunk.value)) continue;
    const parts = rest.join("").split("\n\n");
    rest = [parts.pop()];
    for (const part of parts) yield parse(part);
  }
}

function parse(text) {
  const fields = Object.fromEntries(
    text.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]),
  );
  return [fields.event, JSON.parse(fields.data)];
}

/** A file's bytes as base64. */
export function base64(file) {
  return new Promise((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => fail(reader.error);
    reader.readAsDataURL(file);
  });
}

/** The blob of a base64 PNG. */
export function fromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}
