// The service's API, asked as whoever is signed in.
import { send, session } from "./session.js";

/** The token is not, or no longer, known. */
export class Denied extends Error {}

async function ask(path, options = {}) {
  const answer = await send(path, {
    ...options,
    headers: { Authorization: `Bearer ${session.token}`, ...(options.body ? { "Content-Type": "application/json" } : {}) },
  });
  if (answer.status === 401) throw new Denied();
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    const detail = Array.isArray(said.detail) ? said.detail.map((each) => each.msg).join("; ") : said.detail;
    throw new Error(detail || `${answer.status} ${answer.statusText}`);
  }
  return answer;
}

/** `query`: names and values; an empty value is left out. */
export async function get(path, query = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== undefined));
  return (await ask(asked.size ? `${path}?${asked}` : path)).json();
}

export async function post(path, body = {}) {
  return (await ask(path, { method: "POST", body: JSON.stringify(body) })).json();
}

/** Calls `tell` with what hubs say from now on, until the function that is returned is called. EventSource sends no
 * token, so server-sent events are read by fetch; a stream that ends is begun again. */
export function follow(tell) {
  const ended = new AbortController();
  (async () => {
    while (!ended.signal.aborted) {
      await read(tell, ended.signal).catch(() => {});
      await new Promise((done) => setTimeout(done, 3000));
    }
  })();
  return () => ended.abort();
}

async function read(tell, signal) {
  const answer = await ask("/v1/live", { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = /^data: (.*)$/m.exec(part);
      if (data) tell(JSON.parse(data[1]));
    }
  }
}
