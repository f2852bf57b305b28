// One message as an element: its text, and what can be done with it.

import {element} from "./dom.js";
import {markdown} from "./markdown.js";

const AUTHORS = {user: "You", assistant: "Assistant", system: "System", developer: "System", tool: "Tool"};
const NOTES = {
  cancelled: "You stopped this reply.",
  incomplete: "This reply was cut off.",
};

// `versions` are the message and its siblings; `actions` has edit, regenerate and select, or is null while a reply is
// being written.
export function messageView(message, versions, actions) {
  const body = element("div", {class: "body"}, ...content(message));
  const article = element("article", {"aria-label": AUTHORS[message.role]}, body);
  if (NOTES[message.status]) article.append(element("p", {class: "note"}, NOTES[message.status]));
  article.append(toolbar(message, versions, actions));
  return element("li", {class: message.role, "data-id": message.id}, article);
}

// A reply while it is being written. Screen readers get the whole text at its end: see conversation-view.js.
export function replyView() {
  const body = element("div", {class: "body"});
  const note = element("p", {class: "note"});
  const article = element("article", {"aria-label": "Assistant", "aria-busy": "true"}, body, note);
  let text = "", isScheduled = false;
  return {
    element: element("li", {class: "assistant is-writing"}, article),
    append(more, onDrawn) {
      text += more;
      if (isScheduled) return;
      isScheduled = true;
      requestAnimationFrame(() => {  // many events may come between two frames
        isScheduled = false;
        body.replaceChildren(...markdown(text));
        onDrawn();
      });
    },
    setNote(words) {
      note.textContent = words;
    },
  };
}

// In place of a reply that there is none of.
export function missingReplyView(words, onRetry) {
  const retry = element("button", {class: "quiet", onclick: onRetry}, "Get a reply");
  return element("li", {class: "assistant is-missing"}, element("p", {class: "note"}, words), retry);
}

// The text of a message as a field, to send it in another version.
export function editView(message, {onSave, onCancel}) {
  const field = element("textarea", {"aria-label": "Edit your message", rows: "3"});
  field.value = message.content;
  const form = element("form", {class: "edit", onsubmit: event => {
    event.preventDefault();
    if (field.value.trim()) onSave(field.value);
  }, onkeydown: event => {
    if (event.key === "Escape") onCancel();
  }}, field, element("div", {class: "buttons"},
    element("button", {class: "primary"}, "Send as a new version"),
    element("button", {type: "button", onclick: onCancel}, "Cancel")));
  return {form, field};
}

// People write as they like, so only replies are read as Markdown.
function content(message) {
  return message.role === "assistant" ? markdown(message.content) : [message.content];
}

function toolbar(message, versions, actions) {
  const tools = element("div", {class: "tools"});
  if (versions.length > 1) tools.append(switcher(message, versions, actions));
  if (actions && message.role === "user") {
    tools.append(element("button", {class: "quiet", onclick: () => actions.edit(message)}, "Edit"));
  }
  if (actions && message.role === "assistant" && message.parent_id) {
    tools.append(element("button", {class: "quiet", onclick: () => actions.regenerate(message)}, "Another reply"));
  }
  return tools;
}

function switcher(message, versions, actions) {
  const index = versions.indexOf(message);
  const step = (offset, label, sign) => element("button", {
    class: "quiet", "aria-label": label, "data-step": offset,
    disabled: !actions || !versions[index + offset],
    onclick: () => actions.select(versions[index + offset], offset),
  }, sign);
  return element("span", {class: "versions", role: "group", "aria-label": "Versions of this message"},
    step(-1, "Previous version", "‹"),
    element("span", {}, `${index + 1} of ${versions.length}`),
    step(1, "Next version", "›"));
}
