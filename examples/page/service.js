// Requests to the service: addresses, JSON, errors. Nothing here knows of tokens; api.js adds them.

import {SERVICE} from "./config.js";
import {Problem, Unreachable} from "./errors.js";

// The response to a request. Throws Problem for an error of the service, Unreachable where there was no answer.
export async function send(method, path, {token, body, headers = {}, signal} = {}) {
  const sent = {...headers};
  if (token) sent.Authorization = `Bearer ${token}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(SERVICE + path, {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",  // what one person read stays out of the cache of a shared machine
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable(await isRunning());
  }
  if (!response.ok) throw new Problem(response, await response.json().catch(() => ({})));
  return response;
}

// A browser does not say why a request failed. But without CORS it may send one whose answer nobody can read: if that
// works, the service is there, and refuses only this page's origin.
async function isRunning() {
  try {
    await fetch(`${SERVICE}/healthz`, {mode: "no-cors", cache: "no-store", credentials: "omit"});
    return true;
  } catch {
    return false;
  }
}

// The path of the next page of a list (RFC 8288), or null on the last one.
export function nextPage(response) {
  const link = response.headers.get("Link") ?? "";
  const next = /<([^>]*)>; rel="next"/.exec(link);
  if (!next) return null;
  // `Link` has the prefix below which a proxy serves the service; SERVICE has it, too
  const address = new URL(next[1], SERVICE);
  return `${address.pathname}${address.search}`.slice(new URL(SERVICE).pathname.replace(/\/$/, "").length);
}
