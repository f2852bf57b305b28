// Building the page. All text goes in as text: nothing here, or anywhere else, reads HTML.

export const find = id => document.getElementById(id);

// An element with attributes, event handlers (`onclick`) and children: elements, or text.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

// Let a screen reader say something, once what it is saying has ended.
export function announce(text) {
  find("status").textContent = text;
}

// Show an error at the top, until it is closed or something else works. Screen readers say it at once (role=alert).
export function showProblem(text) {
  const close = element("button", {class: "quiet", "aria-label": "Close this message", onclick: hideProblem}, "Close");
  find("problem").replaceChildren(element("p", {}, text), close);
}

export function hideProblem() {
  find("problem").replaceChildren();
}

// Show what is wrong with single fields of a form, beside them; true if there was such a field.
export function showFieldErrors(form, fields) {
  clearFieldErrors(form);
  const inputs = Object.keys(fields).map(name => form.elements[name]).filter(input => input instanceof HTMLElement);
  for (const input of inputs) {
    const id = `${input.id}-error`;
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", id);
    input.after(element("p", {id, class: "field-error"}, [fields[input.name]].flat().join(" ")));
  }
  inputs[0]?.focus();
  return inputs.length > 0;
}

export function clearFieldErrors(form) {
  for (const error of form.querySelectorAll(".field-error")) error.remove();
  for (const input of form.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
}
