// Files that belong to a session in this browser, such as references: they outlive a reload.

const STORE = "files";

let opening = null; // a promise of the database

function database() {
  opening ??= new Promise((done, fail) => {
    const request = indexedDB.open("overpaint", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => done(request.result);
    request.onerror = () => fail(request.error);
  });
  return opening;
}

async function run(mode, work) {
  const store = (await database()).transaction(STORE, mode).objectStore(STORE);
  const request = work(store);
  return new Promise((done, fail) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => fail(request.error);
  });
}

const key = (session, name) => `${session}/${name}`;

/** What is kept for a session under a name; undefined = nothing. */
export const get = (session, name) => run("readonly", (store) => store.get(key(session, name)));

export const put = (session, name, value) => run("readwrite", (store) => store.put(value, key(session, name)));

/** Forget all that is kept for a session. */
export const forget = (session) =>
  run("readwrite", (store) => store.delete(IDBKeyRange.bound(`${session}/`, `${session}0`, false, true)));
