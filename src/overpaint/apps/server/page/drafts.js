// Masks that are not used yet, kept for each session in this tab: they outlive a reload.

const KEY = "overpaint.mask.";
const SOON = 400; // ms after the last change

let waiting = null; // { session, mask, timer }: what is about to be kept

addEventListener("pagehide", () => flush());

/** Keep a mask, soon: a stroke changes it many times. */
export function keep(session, mask) {
  clearTimeout(waiting?.timer);
  waiting = { session, mask, timer: setTimeout(flush, SOON) };
}

/** Keep now what waits to be kept. */
export function flush() {
  if (!waiting) return;
  const { session, mask, timer } = waiting;
  clearTimeout(timer);
  waiting = null;
  const { width, height } = mask.canvas;
  try {
    sessionStorage.setItem(KEY + session, JSON.stringify({ width, height, image: mask.canvas.toDataURL() }));
  } catch {
    forget(session); // no room: a mask too large to keep is no reason to stop painting
  }
  mask.sent(); // a large one takes a while: it is ready when it is sent
}

export function forget(session) {
  if (waiting?.session === session) {
    clearTimeout(waiting.timer);
    waiting = null;
  }
  sessionStorage.removeItem(KEY + session);
}

/** Paint on a mask what was kept for a session. */
export async function restore(session, mask) {
  const text = sessionStorage.getItem(KEY + session);
  if (!text) return;
  const { width, height, image } = JSON.parse(text);
  if (width !== mask.canvas.width || height !== mask.canvas.height) return;
  const bytes = Uint8Array.from(atob(image.split(",")[1]), (letter) => letter.charCodeAt(0));
  mask.restore(await createImageBitmap(new Blob([bytes], { type: "image/png" })));
}
