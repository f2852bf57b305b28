// The open conversation: its active path, the reply that is being written, edits, other replies and other branches.

import {change, create, get, getAll} from "./api.js";
import {announce, find, hideProblem, showProblem} from "./dom.js";
import {explain} from "./errors.js";
import {followReply} from "./fetch-events.js";  // or ./ticket-events.js, which does the same with an EventSource
import {editView, messageView, missingReplyView, replyView} from "./message-view.js";
import {chosenProvider} from "./providers.js";
import {Tree} from "./tree.js";

const LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff";
const NO_CONVERSATION = {id: null, title: "", active_leaf_id: null};

let conversation = NO_CONVERSATION;
let tree = new Tree([]);
let reply = null;  // the one that is being followed: {id, connection}
let onChanged = () => {};

// `changed` is called when a title or the order of conversations may be another one.
export function startConversation(changed) {
  onChanged = changed;
  find("stop").addEventListener("click", () => attempt(stopReply));
}

// Open a conversation, and go on with the reply that is being written there, begun here or on another device.
export async function openConversation(id) {
  leave();
  conversation = id === null ? NO_CONVERSATION : {...NO_CONVERSATION, id};
  tree = new Tree([]);
  draw();
  if (id === null) return;
  // The completions first: a reply that ends in between is then in the messages. The other way round it could be missed.
  const newest = await get(`/chat/conversations/${id}/completions?limit=20&before=${LAST_ID}`);
  await load(id);
  if (conversation.id !== id) return;  // another one was opened since
  find("scroller").scrollTop = find("scroller").scrollHeight;
  const running = newest.findLast(completion => completion.status === "in_progress");
  if (running) await follow(running);
}

// Post the user's next message and get a reply. Resolves when the message is stored; the reply goes on by itself.
export async function sendMessage(content, onCreated) {
  if (conversation.id === null) {
    conversation = await create("/chat/conversations", {});
    onCreated(conversation.id);
  }
  await begin({content});
}

export const isReplying = () => reply !== null;

async function load(id = conversation.id) {
  const [loaded, messages] = await Promise.all([
    get(`/chat/conversations/${id}`),
    getAll(`/chat/conversations/${id}/messages?branch=all&limit=1000`),
  ]);
  if (conversation.id !== id) return;
  conversation = loaded;
  tree = new Tree(messages);
  draw();
}

// Ask for a reply. In the background: the response has the completion at once, and its events can be read by anybody
// at any time. So one way leads to the text of a new reply, of one after a reload, and after a broken connection.
async function begin(fields) {
  hideProblem();
  const body = {conversation_id: conversation.id, provider_id: chosenProvider(), background: true, ...fields};
  const completion = await create("/chat/completions", body);
  announce("The reply is being written.");
  const loaded = load();
  follow(completion, loaded);
  await loaded;
}

async function follow(completion, loaded = Promise.resolve()) {
  const connection = new AbortController();
  const view = replyView();
  const own = reply = {id: completion.id, connection};
  let ended = null;
  await loaded.catch(() => {});
  if (reply !== own) return;
  draw();
  trim(completion.parent_id);
  find("messages").append(view.element);
  keepAtEnd(true);
  try {
    await followReply(completion.id, {
      signal: connection.signal,
      onWaiting: () => view.setNote("The connection is interrupted. Trying again …"),
      onEvent: data => {
        view.setNote(data.type === "completion.reasoning" ? "Thinking …" : "");
        if (data.type === "completion.delta") view.append(data.delta, () => keepAtEnd());
        if (data.completion) ended = data;
      },
    });
  } catch (error) {
    if (reply === own) showProblem(explain(error));
  }
  if (reply !== own) return;  // another conversation was opened since
  reply = null;
  await attempt(load);
  finish(ended);
  onChanged();
}

// Say how it ended. A reply that failed before its first word leaves no message.
function finish(ended) {
  if (ended === null) return;
  if (ended.problem) {
    const note = find("messages").querySelector(".is-missing .note");
    if (note) note.textContent = ended.problem.detail;
    else showProblem(ended.problem.detail);
    announce(ended.problem.detail);
  } else {
    announce(`The reply has ended. ${ended.completion.message?.content ?? ""}`);
  }
  keepAtEnd();
}

async function stopReply() {
  if (reply === null) return;
  await change("POST", `/chat/completions/${reply.id}/cancel`);  // the events end with `completion.cancelled`
  find("message").focus();
}

// Stop reading; the reply goes on without a reader.
function leave() {
  reply?.connection.abort();
  reply = null;
}

const actions = {
  // Another version of a message: a new branch, with a reply of its own.
  edit(message) {
    const article = find("messages").querySelector(`[data-id="${message.id}"] article`);
    const before = [...article.childNodes];
    const {form, field} = editView(message, {
      onSave: content => attempt(async () => {
        await create("/chat/messages",
          {conversation_id: conversation.id, role: "user", content, parent_id: message.parent_id});
        await begin({});
      }),
      onCancel: () => {
        article.replaceChildren(...before);
        article.querySelector("button")?.focus();
      },
    });
    article.replaceChildren(form);
    field.focus();
  },

  // Another reply to the same message: a sibling of the first one.
  regenerate(message) {
    return attempt(() => begin({parent_id: message.parent_id}));
  },

  // Go over to another branch, to where it ends.
  select(version, step) {
    return attempt(async () => {
      const leaf = tree.newestLeaf(version);
      conversation = await change("PATCH", `/chat/conversations/${conversation.id}`, {active_leaf_id: leaf.id});
      draw();
      const versions = tree.versions(version);
      announce(`Version ${versions.indexOf(version) + 1} of ${versions.length}.`);
      const switcher = find("messages").querySelector(`[data-id="${version.id}"] .versions`);
      const button = switcher.querySelector(`[data-step="${step}"]:enabled`) ?? switcher.querySelector(":enabled");
      button.focus();  // the one that had the focus was replaced
    });
  },
};

function draw() {
  const path = tree.pathTo(conversation.active_leaf_id);
  const allowed = reply === null ? actions : null;
  find("messages").replaceChildren(
    ...path.map(message => messageView(message, tree.versions(message), allowed)));
  const last = path.at(-1);
  if (allowed && last?.role === "user") {
    find("messages").append(missingReplyView("There is no reply to this message.",
      () => attempt(() => begin({parent_id: last.id}))));
  }
  const title = conversation.title || "New conversation";
  find("title").textContent = title;
  document.title = title;
  find("empty").hidden = conversation.id !== null;
  find("stop").hidden = reply === null;
  find("send").hidden = reply !== null;
}

// Remove what comes after the message that is being answered.
function trim(parentId) {
  const parent = find("messages").querySelector(`[data-id="${parentId}"]`);
  while (parent?.nextSibling) parent.nextSibling.remove();
}

// Follow the text as it grows, unless the reader has scrolled up to read something else.
function keepAtEnd(always = false) {
  const scroller = find("scroller");
  const distance = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
  if (always || distance < 160) scroller.scrollTop = scroller.scrollHeight;
}

async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    showProblem(explain(error));
  }
}
