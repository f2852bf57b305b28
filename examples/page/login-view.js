// The form to log in, and to make an account.

import {clearFieldErrors, find, hideProblem, showFieldErrors, showProblem} from "./dom.js";
import {explain, Problem} from "./errors.js";
import {logIn, register} from "./session.js";

// Show the form; `onLogin` is called when somebody is logged in.
export function startLogin(onLogin) {
  const form = find("login-form");
  form.addEventListener("submit", async event => {
    event.preventDefault();
    const {email, password} = Object.fromEntries(new FormData(form));
    clearFieldErrors(form);
    hideProblem();
    form.setAttribute("aria-busy", "true");
    try {
      if (event.submitter?.value === "register") await register(email, password);
      await logIn(email, password);
      form.reset();
      onLogin();
    } catch (error) {
      // what is wrong with a field stands beside it
      if (!(error instanceof Problem && showFieldErrors(form, error.fields))) showProblem(explain(error));
    } finally {
      form.removeAttribute("aria-busy");
    }
  });
}

export function showLogin() {
  find("app").hidden = true;
  find("login").hidden = false;
  document.title = "Log in";
  find("email").focus();
}

export function hideLogin() {
  find("login").hidden = true;
  find("app").hidden = false;
}
