// Errors, and what they mean in plain words.

import {SERVICE} from "./config.js";

// An error of the service, as application/problem+json (RFC 9457): `code` is for programs, `detail` for people.
export class Problem extends Error {
  constructor(response, problem) {
    super(problem.detail ?? problem.title ?? `The service answered with the status ${response.status}.`);
    this.status = response.status;
    this.code = problem.code;
    this.fields = problem.errors ?? {};
    this.requestId = problem.request_id;
    this.retryAfterS = Number(response.headers?.get("Retry-After")) || null;
  }
}

// There was no answer that this page may read.
export class Unreachable extends Error {
  constructor(serviceIsRunning) {
    super(serviceIsRunning
      ? `The service at ${SERVICE} does not allow this page: its operator must add ${window.location.origin} to ` +
        "CORS_ORIGINS."
      : `The service at ${SERVICE} can’t be reached. Is it running, and are you online?`);
    this.isRefused = serviceIsRunning;
  }
}

// The login has ended, here or elsewhere.
export class LoggedOut extends Error {
  constructor() {
    super("Your login has ended. Please log in again.");
  }
}

// Whether the same request may work a little later.
export function isTemporary(error) {
  return (error instanceof Unreachable && !error.isRefused) ||
    (error instanceof Problem && [429, 502, 503, 504].includes(error.status));
}

export function explain(error) {
  if (!(error instanceof Problem)) return error.message;
  const words = [error.message];
  if (error.retryAfterS) words.push(`Try again in ${seconds(error.retryAfterS)}.`);
  // an operator finds the request in the log by this id
  if (error.status === 500) words.push(`If you report it, name the request ${error.requestId}.`);
  return words.join(" ");
}

function seconds(count) {
  if (count > 90) return `${Math.ceil(count / 60)} minutes`;
  return count === 1 ? "a second" : `${count} seconds`;
}
