// Follow a reply with fetch, which can send the token in a header. The stream may break at any moment: it is opened
// again after the id of the last event, and the service continues at exactly that character.

import {pause, request} from "./api.js";
import {isTemporary} from "./errors.js";

const SILENCE_MS = 30_000;  // the service sends a comment every 10 seconds, so this connection is dead
const LONGEST_PAUSE_MS = 10_000;

// Call `onEvent` with each event until the reply has ended or `signal` aborts. Throws what can't be helped by waiting.
export async function followReply(completionId, {onEvent, onWaiting = () => {}, signal}) {
  let lastEventId = null;
  for (let failures = 0; !signal.aborted;) {
    try {
      for await (const event of events(completionId, lastEventId, signal)) {
        failures = 0;
        lastEventId = event.id;
        const data = JSON.parse(event.data);
        onEvent(data);
        if (hasEnded(data)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!isTemporary(error) && !(error instanceof Broken)) throw error;
    }
    if (signal.aborted) return;
    failures++;
    onWaiting();
    await pause(Math.min(2 ** failures * 100, LONGEST_PAUSE_MS), signal);
  }
}

// The last event has the completion as it ended; `completion.started` has it, too, in progress.
export const hasEnded = data => data.completion !== undefined && data.completion.status !== "in_progress";

class Broken extends Error {}

async function* events(completionId, lastEventId, signal) {
  const connection = new AbortController();
  const abort = () => connection.abort();
  signal.addEventListener("abort", abort);
  try {
    const headers = lastEventId === null ? {} : {"Last-Event-ID": lastEventId};
    const path = `/chat/completions/${completionId}/events`;
    const response = await request("GET", path, {headers, signal: connection.signal});
    if (response.body) yield* parse(response.body.pipeThrough(new TextDecoderStream()).getReader(), abort);
  } finally {
    signal.removeEventListener("abort", abort);
    abort();
  }
}

// Events are separated by blank lines (WHATWG HTML, section 9.2). The service writes each field once, data on one line.
async function* parse(reader, abort) {
  let text = "";
  for (;;) {
    const silence = setTimeout(abort, SILENCE_MS);
    let chunk;
    try {
      chunk = await reader.read();
    } catch (error) {
      throw new Broken("The connection broke.", {cause: error});
    } finally {
      clearTimeout(silence);
    }
    if (chunk.done) return;
    const blocks = (text + chunk.value).split("\n\n");
    text = blocks.pop();  // the last one is not complete yet
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map(line => splitField(line)));
      if (fields.has("data")) yield {id: fields.get("id"), data: fields.get("data")};
    }
  }
}

function splitField(line) {
  const colon = line.indexOf(": ");
  return [line.slice(0, colon), line.slice(colon + 2)];
}
