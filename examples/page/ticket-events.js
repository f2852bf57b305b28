// Follow a reply with an EventSource: the same as fetch-events.js, in fewer lines. An EventSource can't send a token,
// so it gets a ticket: good for a minute, for the events of one completion. The browser reconnects by itself, with the
// id of the last event; after the minute the service refuses the ticket, and another one is needed.

import {change, pause} from "./api.js";
import {SERVICE} from "./config.js";

const NAMES = ["started", "delta", "reasoning", "tool_call", "source", "attachment", "completed", "incomplete", "failed", "cancelled"];
const LONGEST_PAUSE_MS = 10_000;

// Call `onEvent` with each event until the reply has ended or `signal` aborts. Throws what can't be helped by waiting.
export async function followReply(completionId, {onEvent, onWaiting = () => {}, signal}) {
  let lastEventId = null, failures = 0;
  while (!signal.aborted) {
    const {ticket} = await change("POST", `/chat/completions/${completionId}/events/ticket`);
    const address = new URL(`${SERVICE}/chat/completions/${completionId}/events`);
    address.searchParams.set("ticket", ticket);
    if (lastEventId !== null) address.searchParams.set("after", lastEventId);
    const isOver = await listen(address, signal, onWaiting, event => {
      failures = 0;
      lastEventId = event.lastEventId;
      onEvent(JSON.parse(event.data));
    });
    if (isOver) return;
    failures++;
    await pause(Math.min(2 ** failures * 100, LONGEST_PAUSE_MS), signal);
  }
}

// True when the reply has ended, false when the browser has given up.
function listen(address, signal, onWaiting, onEvent) {
  return new Promise(resolve => {
    const source = new EventSource(address);
    const end = isOver => {
      source.close();
      resolve(isOver);
    };
    signal.addEventListener("abort", () => end(true), {once: true});
    source.onerror = () => {
      onWaiting();
      if (source.readyState === EventSource.CLOSED) end(false);
    };
    for (const name of NAMES) {
      source.addEventListener(`completion.${name}`, event => {
        onEvent(event);
        if (["completed", "incomplete", "failed", "cancelled"].includes(name)) end(true);
      });
    }
  });
}
