// Requests of somebody who is logged in.

import {isTemporary, Problem, Unreachable} from "./errors.js";
import {nextPage, send} from "./service.js";
import {accessToken, renew} from "./session.js";

// The response to a request with a valid token. A token may end before its time, so 401 is tried again with a new one.
export async function request(method, path, options = {}) {
  try {
    return await send(method, path, {...options, token: await accessToken()});
  } catch (error) {
    if (!(error instanceof Problem && error.status === 401)) throw error;
    return send(method, path, {...options, token: await renew()});
  }
}

export async function get(path) {
  return (await request("GET", path)).json();
}

export async function change(method, path, body) {
  const response = await request(method, path, {body});
  return response.status === 204 ? null : response.json();
}

// Create something. A request whose answer got lost is sent again: by its key the service knows that it is the same
// one, and does nothing twice.
export async function create(path, body) {
  const headers = {"Idempotency-Key": crypto.randomUUID()};
  for (let attempt = 1; ; attempt++) {
    try {
      return await (await request("POST", path, {body, headers})).json();
    } catch (error) {
      const mayRepeat = isTemporary(error) && error instanceof Unreachable || error.code === "still_running";
      if (attempt === 3 || !mayRepeat) throw error;
      await pause(attempt * 500);
    }
  }
}

// One page of a list, and the path of the next one.
export async function getPage(path) {
  const response = await request("GET", path);
  return {items: await response.json(), next: nextPage(response)};
}

// All items of a list, page by page.
export async function getAll(path) {
  const all = [];
  for (let next = path; next;) {
    const page = await getPage(next);
    all.push(...page.items);
    next = page.next;
  }
  return all;
}

export const pause = (ms, signal) => new Promise(resolve => {
  setTimeout(resolve, ms);
  signal?.addEventListener("abort", resolve, {once: true});
});
