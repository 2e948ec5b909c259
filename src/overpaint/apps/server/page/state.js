// What the parts of the page share: one object, and who wants to know when something in it changes.

export const state = {
  session: null, // as the server tells it
  opening: false, // whether a picture is shown that is on its way to the server
  models: [],
  task: "erase",
  tool: "brush",
  brush: 40, // diameter in screen pixels
  view: "result",
  against: "before",
  running: null, // { session, edit, told, step, total } of the open session
  mask: null,
  hidesMask: false,
  look: JSON.parse(localStorage.getItem("overpaint.look") ?? "{}"), // of the mask
  limits: null, // of the server
  frame: null, // of a picture that is to grow: pixels on each side
  pulls: {}, // downloads of models that are under way, by name
};

const listeners = [];

/** Call `listener` after a change of one of the named values. */
export function on(names, listener) {
  listeners.push([new Set(names), listener]);
}

/** Change values and tell their listeners. */
export function set(values) {
  Object.assign(state, values);
  const names = Object.keys(values);
  for (const [wanted, listener] of listeners) {
    if (names.some((name) => wanted.has(name))) listener(state);
  }
}

/** A turn of the session by its id. */
export const turnOf = (id) => state.session?.turns.find((turn) => turn.id === id) ?? null;

/** The turn that is shown. */
export const head = () => turnOf(state.session?.head);

/** The turn that everything began with. */
export const original = () => state.session?.turns.find((turn) => turn.parent === null) ?? null;
