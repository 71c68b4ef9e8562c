// The server: JSON calls and server-sent events over POST. No call leaves this origin.

export class ApiError extends Error {
  constructor(status, body, retryAfter) {
    super(body?.error?.message || `The server answered ${status}.`);
    this.status = status;
    this.code = body?.error?.code || null;
    this.param = body?.error?.param || null;
    this.retryAfter = retryAfter;
  }
}

let key = sessionStorage.getItem("galen-key") || "";

export function setKey(value) {
  key = value;
  if (value) sessionStorage.setItem("galen-key", value);
  else sessionStorage.removeItem("galen-key");
}

export const getKey = () => key;

async function request(path, { method = "GET", body, signal, accept = "application/json" } = {}) {
  const headers = { Accept: accept };
  if (key) headers.Authorization = "Bearer " + key;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", credentials: "omit" });
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new ApiError(0, { error: { message: "The server cannot be reached. Is galen serve still running?" } });
  }
  if (answer.ok) return answer;
  let json = null;
  try { json = await answer.json(); } catch { /* no body that says more */ }
  throw new ApiError(answer.status, json, answer.headers.get("Retry-After"));
}

export const getJson = async (path, signal) => (await request(path, { signal })).json();
export const postJson = async (path, body, signal) => (await request(path, { method: "POST", body, signal })).json();
export const erase = async (path) => (await request(path, { method: "DELETE" })).json();
export const getBlob = async (path) => (await request(path, { accept: "*/*" })).blob();

// Events of one POST, in order: yields {event, data}. Ends with the stream; an abort ends it with AbortError.
export async function* events(path, body, signal) {
  const answer = await request(path, { method: "POST", body, signal, accept: "text/event-stream" });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
      let event = "message", data = "";
      for (const line of rest.slice(0, end).split("\n")) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data += (data ? "\n" : "") + line.slice(5).trimStart();
      }
      if (data) yield { event, data: JSON.parse(data) };
    }
  }
}
