// The field for the next message.

import {isReplying, sendMessage} from "./conversation-view.js";
import {find} from "./dom.js";

export function startComposer({onCreated, onError}) {
  const form = find("composer");
  const field = find("message");

  form.addEventListener("submit", async event => {
    event.preventDefault();
    const content = field.value;
    if (!content.trim() || isReplying() || form.hasAttribute("aria-busy")) return;
    form.setAttribute("aria-busy", "true");
    try {
      await sendMessage(content, onCreated);
      field.value = "";  // not before: nobody should have to write it again
    } catch (error) {
      onError(error);
    } finally {
      form.removeAttribute("aria-busy");
      field.focus();
    }
  });

  field.addEventListener("keydown", event => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;  // Enter may also end a Japanese word
    event.preventDefault();
    form.requestSubmit();
  });
}
