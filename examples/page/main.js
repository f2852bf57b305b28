// The page as a whole: who is logged in, and what is open.

import {get} from "./api.js";
import {startComposer} from "./composer.js";
import {loadConversations, markCurrent, startConversationList} from "./conversation-list.js";
import {openConversation, startConversation} from "./conversation-view.js";
import {find, hideProblem, showProblem} from "./dom.js";
import {explain, LoggedOut} from "./errors.js";
import {hideLogin, showLogin, startLogin} from "./login-view.js";
import {loadProviders, startProviders} from "./providers.js";
import {currentRoute, nameConversation, startRouter} from "./router.js";
import {isLoggedIn, logOut, onOtherTab} from "./session.js";

function showError(error) {
  if (error instanceof LoggedOut) showLogin();
  showProblem(explain(error));
}

async function enter() {
  try {
    const [user] = await Promise.all([get("/auth/me"), loadProviders(), loadConversations()]);
    const before = find("account").textContent;
    // what somebody else has read and begun to write here must not stay
    if (before && before !== user.email) return window.location.assign("?");
    find("account").textContent = user.email;
    hideLogin();  // not before all is there: what is clicked sooner would be lost
    find(document.body.classList.contains("is-connecting") ? "api_endpoint" : "message").focus();
    await showRoute();
  } catch (error) {
    showError(error);
  }
}

// On a phone either the list or a conversation is seen; on a wide screen both are.
async function showRoute() {
  const {conversationId, isNew} = currentRoute();
  document.body.dataset.view = conversationId || isNew ? "conversation" : "list";
  hideProblem();
  markCurrent();
  try {
    await openConversation(conversationId);
    if (isNew) find("message").focus();
  } catch (error) {
    showError(error);
  }
}

startRouter(showRoute);
startLogin(enter);
startProviders();
startConversationList(showError);
startConversation(() => loadConversations().catch(showError));
startComposer({
  onError: showError,
  onCreated: id => {
    nameConversation(id);
    document.body.dataset.view = "conversation";
    loadConversations().catch(showError);
  },
});
find("log-out").addEventListener("click", async () => {
  await logOut().catch(() => {});  // forgotten here in any case
  window.location.assign("?");
});
onOtherTab(() => window.location.reload());

if (isLoggedIn()) enter();
else showLogin();
