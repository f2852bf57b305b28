// The models that the user can talk to: a provider, a key for it if it needs one, and the name of a model.

import {change, create, getAll} from "./api.js";
import {announce, clearFieldErrors, element, find, hideProblem, showFieldErrors, showProblem} from "./dom.js";
import {explain, Problem} from "./errors.js";

const CHOSEN = "chat-api-example.provider";

export const chosenProvider = () => find("provider").value;

// Fill the list of models; without one, show the form to connect the first.
export async function loadProviders() {
  const [providers, configs] = await Promise.all([getAll("/chat/llm-providers"), getAll("/chat/user-llm-configs")]);
  const names = new Map(providers.map(provider => [provider.id, provider.name]));
  const usable = configs.filter(config => config.default_model && names.has(config.provider_id));
  const select = find("provider");
  select.replaceChildren(...usable.map(config => element("option", {value: config.provider_id},
    `${config.default_model} (${names.get(config.provider_id)})`)));
  const chosen = localStorage.getItem(CHOSEN);
  if (usable.some(config => config.provider_id === chosen)) select.value = chosen;
  setFormVisible(usable.length === 0);
}

export function startProviders() {
  const form = find("provider-form");
  find("provider").addEventListener("change", () => localStorage.setItem(CHOSEN, chosenProvider()));
  find("connect-model").addEventListener("click", () => setFormVisible(true));
  find("cancel-connect").addEventListener("click", () => setFormVisible(false));
  form.addEventListener("submit", async event => {
    event.preventDefault();
    clearFieldErrors(form);
    hideProblem();
    const {api_endpoint, default_model, api_key} = Object.fromEntries(new FormData(form));
    try {
      await connect(api_endpoint, default_model, api_key);
      announce(`${default_model} is connected.`);
      find("message").focus();
    } catch (error) {
      if (!(error instanceof Problem && showFieldErrors(form, error.fields))) showProblem(explain(error));
    }
  });
}

async function connect(api_endpoint, default_model, api_key) {
  const name = URL.canParse(api_endpoint) ? new URL(api_endpoint).host : "Provider";
  const provider = await create("/chat/llm-providers", {name, api_endpoint});
  try {
    // `null` stands for a server that needs no key
    await create("/chat/user-llm-configs", {provider_id: provider.id, default_model, api_key: api_key || null});
  } catch (error) {
    await change("DELETE", `/chat/llm-providers/${provider.id}`);  // or each attempt would leave another one
    throw error;
  }
  localStorage.setItem(CHOSEN, provider.id);
  find("provider-form").reset();
  await loadProviders();
  const check = await change("POST", `/chat/llm-providers/${provider.id}/check`);
  const failed = [check.address, check.key, check.model].find(step => step.problem);
  if (failed) showProblem(`The model does not work yet. ${failed.problem.detail}`);
}

function setFormVisible(isVisible) {
  const hasModels = find("provider").options.length > 0;
  document.body.classList.toggle("is-connecting", isVisible);
  find("provider-form").hidden = !isVisible;
  find("cancel-connect").hidden = !hasModels;
  find("provider").hidden = !hasModels;
  if (isVisible) find("api_endpoint").focus();
}
