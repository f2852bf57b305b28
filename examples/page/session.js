// The login: where its tokens are kept, and how they are renewed.
//
// The access token (15 minutes) is kept in memory only. The refresh token is kept in localStorage, because a reload
// must not end the login and because all tabs must use the same one: each can be used once, and a copy that is used
// later ends the login. A script that runs in this page could read it; the policy in index.html is what keeps foreign
// scripts out. Nothing is ever put into an address.

import {LoggedOut, Problem} from "./errors.js";
import {send} from "./service.js";

const KEY = "chat-api-example.refresh-token";
const EARLY_MS = 30_000;  // a request takes its time, and clocks differ

let access = null;

export const isLoggedIn = () => localStorage.getItem(KEY) !== null;

export async function register(email, password) {
  await send("POST", "/auth/register", {body: {email, password}});
}

export async function logIn(email, password) {
  keep(await (await send("POST", "/auth/login", {body: {email, password}})).json());
}

// A token that is still valid for a while. Throws LoggedOut.
export async function accessToken() {
  if (access && Date.now() < access.expiresAt) return access.token;
  return renew();
}

// A new token in place of the one that the service refused. Throws LoggedOut.
export async function renew() {
  const before = access;
  return exclusively(async () => {
    if (access && access !== before) return access.token;  // another request of this page has just done it
    const token = localStorage.getItem(KEY);
    if (token === null) throw new LoggedOut();
    try {
      keep(await (await send("POST", "/auth/refresh", {token})).json());
    } catch (error) {
      if (!(error instanceof Problem && error.status === 401)) throw error;
      forget();
      throw new LoggedOut();
    }
    return access.token;
  });
}

// Both tokens stop working, in all tabs.
export async function logOut() {
  try {
    await send("POST", "/auth/logout", {token: await accessToken()});
  } finally {
    forget();
  }
}

// Call `action` when another tab logs out, or logs in as somebody else.
export function onOtherTab(action) {
  window.addEventListener("storage", event => {
    if (event.key === KEY && (event.newValue === null || event.oldValue === null)) action();
  });
}

function keep(pair) {
  access = {token: pair.access_token, expiresAt: Date.now() + pair.expires_in * 1000 - EARLY_MS};
  localStorage.setItem(KEY, pair.refresh_token);
}

function forget() {
  access = null;
  localStorage.removeItem(KEY);
}

// One tab at a time. Locks exist on https and on this machine; elsewhere the service forgives a second use of a
// refresh token within ten seconds.
function exclusively(action) {
  return navigator.locks ? navigator.locks.request(KEY, action) : action();
}
