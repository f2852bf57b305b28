// The list of conversations, most recently used first, a page at a time.

import {getPage} from "./api.js";
import {announce, element, find} from "./dom.js";
import {conversationLink, currentRoute} from "./router.js";

const FIRST = "/chat/conversations?limit=20";

let next = null;

export function startConversationList(onError) {
  find("more-conversations").addEventListener("click", () => showMore().catch(onError));
}

export async function loadConversations() {
  const page = await getPage(FIRST);
  show(page);
  const nothing = element("li", {}, element("p", {class: "muted"}, "Nothing here yet."));
  find("conversations").replaceChildren(...(page.items.length ? page.items.map(item) : [nothing]));
  markCurrent();
}

// The one that is open has `aria-current`, which also gives it its look.
export function markCurrent() {
  const {conversationId} = currentRoute();
  for (const link of find("conversations").querySelectorAll("a")) {
    if (link.dataset.id === conversationId) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function showMore() {
  const page = await getPage(next);
  // One that was used since is on an earlier page already, or was there: no conversation stands in the list twice.
  const listed = new Set(Array.from(find("conversations").querySelectorAll("a"), link => link.dataset.id));
  const added = page.items.filter(conversation => !listed.has(conversation.id)).map(item);
  show(page);
  find("conversations").append(...added);
  markCurrent();
  announce(`${added.length} more conversations.`);
  added[0]?.querySelector("a").focus();  // the button may be gone, and the focus with it
}

function show(page) {
  next = page.next;
  find("more-conversations").hidden = next === null;
}

function item(conversation) {
  const link = element("a", {href: conversationLink(conversation.id), "data-id": conversation.id},
    conversation.title || "New conversation");
  return element("li", {}, link);
}
