// What the two drivers share: their settings, and the record of which operations were driven.

import { readFileSync } from "node:fs";

const METHODS = ["get", "post", "put", "patch", "delete"];

export const setting = (name: string): string => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
};

export const baseUrl = setting("BASE_URL");
const calls: { method: string; path: string; status: number }[] = [];

/** `fetch` that remembers what was called. */
export const recorded = async (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
  const request = new Request(input, init);
  const response = await fetch(request);
  calls.push({ method: request.method.toLowerCase(), path: new URL(request.url).pathname, status: response.status });
  return response;
};

/** Wait until the text of an upload is extracted. */
export const textIsReady = async (id: string, token: string): Promise<void> => {
  const headers = { Authorization: `Bearer ${token}` };
  for (let tries = 0; tries < 150; tries++) {
    if ((await fetch(`${baseUrl}/chat/attachments/${id}/text`, { headers })).status !== 409) return;
    await new Promise(resolve => setTimeout(resolve, 200));
  }
  throw new Error("no text");
};

/** What a call answered; throws where it failed. */
export const answered = <T>(call: { data?: T; error?: unknown; response?: Response }): NonNullable<T> => {
  if (call.error !== undefined) throw new Error(`${call.response?.url}: ${JSON.stringify(call.error)}`);
  return call.data as NonNullable<T>;
};

/** Print what was driven; fails where an operation was not, or did not succeed. */
export const finish = (): void => {
  const document = JSON.parse(readFileSync(setting("DOCUMENT"), "utf8"));
  const missing = [];
  for (const [template, item] of Object.entries<Record<string, unknown>>(document.paths)) {
    const pattern = new RegExp(`^${template.replace(/\{\w+\}/g, "[^/]+")}$`);
    const exact = calls.filter(call => call.path === template);
    for (const method of METHODS.filter(method => method in item)) {
      const found = [...exact, ...calls.filter(call => pattern.test(call.path))].filter(call => call.method === method);
      if (!found.some(call => call.status < 300)) missing.push(`${method} ${template}`);
    }
  }
  const failed = calls.filter(call => call.status >= 400);
  console.log(JSON.stringify({ calls: calls.length, failed, missing }));
  if (missing.length || failed.length) process.exitCode = 1;
};
