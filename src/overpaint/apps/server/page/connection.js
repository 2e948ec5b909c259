// The line to the server: that it is gone is said until it answers again.

import * as api from "./api.js";
import { attempt, complain, hush } from "./dom.js";

const EVERY = 1500; // ms

let waiting = false;

/** Watch the line; `again` is called each time when the server is back. */
export function init(again) {
  api.onSilence(async () => {
    if (waiting) return;
    waiting = true;
    const silence = new api.Fault(0).sentence;
    complain(silence, { stays: true });
    do await new Promise((wake) => setTimeout(wake, EVERY));
    while (!(await api.answers()));
    waiting = false;
    hush(silence);
    attempt(again);
  });
}
