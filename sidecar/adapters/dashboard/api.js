// Calls of the admin API. A token, where one is asked for, lives as long as the tab.

const PATIENCE = 4000;
/** Milliseconds without an octet after which a stream is lost; it has something every two seconds. */
const SILENCE = 4500;
const RETRY = 1000;

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `the sidecar answered ${status}`);
    this.status = status;
  }
}

let askForToken = async () => "";
let asking = null;

/** `ask(why)` gives the token that the user types. */
export function askForTokenWith(ask) {
  askForToken = ask;
}

/** Several calls that need a token at once ask for it once. */
async function newToken(why) {
  asking ??= askForToken(why).finally(() => { asking = null; });
  sessionStorage.setItem("token", await asking);
}

function headers(more = {}) {
  const token = sessionStorage.getItem("token");
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function problemOf(response) {
  return new ApiError(response.status, await response.json().catch(() => ({})));
}

/** `send()` until its answer is not that a token is needed. */
async function authorized(send) {
  for (let why = "This sidecar asks for a token."; ; why = "That was not the token.") {
    const response = await send();
    if (response.status !== 401) return response;
    await newToken(why);
  }
}

/** The JSON that a call answers. Throws ApiError when it is refused, and what `fetch` throws. */
export async function call(method, path, body) {
  const response = await authorized(() => fetch(path, {
    method,
    headers: headers(body === undefined ? {} : { "Content-Type": "application/json" }),
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE),
  }));
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

/**
 * For ever: `load()`, which gives the path of a stream of server-sent events, then `received(event, data)` for each,
 * then `lost(error)`. EventSource could send no token, and would not notice a peer that hangs. While nobody sees the
 * page nothing is connected.
 */
export async function follow({ load, received, lost }) {
  for (;;) {
    try {
      await visible();
      await read(await load(), received);
      if (!document.hidden) lost(new Error("the stream ended"));
    } catch (error) {
      if (!document.hidden) lost(error);
    }
    await new Promise((done) => setTimeout(done, RETRY));
  }
}

function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true })).then(visible);
}

async function read(path, received) {
  const ending = new AbortController();
  const end = () => ending.abort();
  let alarm = setTimeout(end, SILENCE);
  document.addEventListener("visibilitychange", end);
  try {
    const response = await fetch(path, { headers: headers(), signal: ending.signal });
    if (!response.ok) throw await problemOf(response);
    let rest = "";
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      clearTimeout(alarm);
      alarm = setTimeout(end, SILENCE);
      const blocks = (rest + text).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) tell(block, received);
    }
  } finally {
    clearTimeout(alarm);
    document.removeEventListener("visibilitychange", end);
    end();
  }
}

function tell(block, received) {
  const fields = Object.fromEntries(block.split("\n").map((line) => {
    const colon = line.indexOf(": ");
    return [line.slice(0, colon), line.slice(colon + 2)];
  }));
  if (fields.data) received(fields.event, JSON.parse(fields.data));
}
