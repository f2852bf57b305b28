// Which conversation is open stands in the address, so that a reload, the Back button and a new tab keep it.

let onChange = () => {};

export function startRouter(action) {
  onChange = action;
  window.addEventListener("popstate", () => onChange());
  document.addEventListener("click", event => {
    const link = event.target.closest("a[href^='?']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;  // a new tab or window
    event.preventDefault();
    go(link.getAttribute("href"));
  });
}

export function currentRoute() {
  const query = new URLSearchParams(window.location.search);
  return {conversationId: query.get("conversation"), isNew: query.has("new")};
}

export const conversationLink = id => `?conversation=${encodeURIComponent(id)}`;

export function go(link) {
  history.pushState(null, "", link);
  onChange();
}

// Name the conversation that was just created in the address, without opening it again.
export function nameConversation(id) {
  history.replaceState(null, "", conversationLink(id));
}
