// Drives operations with the client that @hey-api/openapi-ts generates.

import { answered, baseUrl, finish, recorded, setting, textIsReady } from "./driven.ts";
import { client } from "./generated/hey-api/client.gen.ts";
import * as api from "./generated/hey-api/sdk.gen.ts";
import type { CompletionEvent, CreateAttachment } from "./generated/hey-api/types.gen.ts";

let token = "";
client.setConfig({ baseUrl, fetch: recorded, auth: () => token });

const textOf = async (stream: AsyncIterable<CompletionEvent | unknown>): Promise<string> => {
  let text = "";
  let ended = false;
  for await (const each of stream) {
    const event = each as CompletionEvent;
    if (event.type === "completion.delta") text += event.delta;
    if (event.type === "completion.failed") throw new Error(event.problem.detail);
    if (event.type === "completion.completed") ended = event.completion.status === "completed";
  }
  if (!ended) throw new Error("no end");
  return text;
};

answered(await api.getHealth());
answered(await api.getReadiness());
token = setting("METRICS_TOKEN");
answered(await api.getMetrics());

const credentials = { email: `hey-${Date.now()}@example.org`, password: "correct horse battery staple" };
const user = answered(await api.register({ body: credentials }));
token = answered(await api.logIn({ body: credentials })).refresh_token;
token = answered(await api.refresh()).access_token;
answered(await api.getMe());
answered(await api.updateMe({ body: { current_password: credentials.password, password: "another horse battery" } }));
const path = { token_id: answered(await api.createToken({ body: { name: "script" } })).id };
answered(await api.listTokens({ query: { limit: 10 } }));
answered(await api.getToken({ path }));
answered(await api.deleteToken({ path }));

const own = token;
const logIn = async () => answered(await api.logIn({ body: { email: setting("ADMIN"), password: setting("PASSWORD") } })).access_token;
token = await logIn();
const ofInvitation = { path: { invitation_id: answered(await api.createInvitation({ body: {} })).id } };
answered(await api.listInvitations());
answered(await api.getInvitation(ofInvitation));
answered(await api.deleteInvitation(ofInvitation));
// as an admin for the user
answered(await api.createConversation({ headers: { "X-Act-As": user.id }, body: {} }));
answered(await api.logOut());
token = own;
if (answered(await api.listConversations()).length !== 1) throw new Error("X-Act-As");

const conversation_id = answered(await api.createConversation({ body: { title: "Trip" } })).id;
const ofConversation = { path: { conversation_id } };
answered(await api.getConversation(ofConversation));
answered(await api.updateConversation({ ...ofConversation, body: { pinned: true } }));
const message = answered(await api.createMessage({ body: { conversation_id, role: "user", content: "Hello there" } }));
const ofMessage = { path: { message_id: message.id } };
answered(await api.listMessages(ofConversation));
answered(await api.getMessage(ofMessage));
const attachment = answered(await api.createAttachment({ body: { message_id: message.id, file_type: "image/png", file_path: "a.png" } }));
const ofAttachment = { path: { attachment_id: attachment.id } };
answered(await api.listAttachments(ofMessage));
answered(await api.getAttachment(ofAttachment));
answered(await api.deleteAttachment(ofAttachment));
// of two kinds of bodies the generator knows the first
const form = new FormData();
form.set("file", new Blob(["Lisbon, Porto"]), "places.txt");
const upload = answered(await api.createAttachment({
  body: form as unknown as CreateAttachment, bodySerializer: null, headers: { "Content-Type": null },
}));
const content = answered(await api.getContent({ path: { attachment_id: upload.id }, parseAs: "text" }));
if (String(content) !== "Lisbon, Porto") throw new Error(String(content));
const ofUpload = { path: { attachment_id: upload.id } };
const link = answered(await api.createLink({ ...ofUpload, body: { expires_in_s: 60, single_use: true } }));
if (await (await fetch(baseUrl + link.url)).text() !== "Lisbon, Porto") throw new Error(link.url);
await textIsReady(upload.id, token);
const text = answered(await api.getText({ ...ofUpload, parseAs: "text" }));
if (text !== "Lisbon, Porto") throw new Error(text);

answered(await api.listCatalog());
const provider = answered(await api.createProvider({ body: { name: "Echo", api_endpoint: setting("PROVIDER") } }));
const ofProvider = { path: { provider_id: provider.id } };
answered(await api.listProviders());
answered(await api.getProvider(ofProvider));
answered(await api.updateProvider({ ...ofProvider, body: { context_window: 8192 } }));
answered(await api.createConfig({ body: { provider_id: provider.id, api_key: "sk-echo-0123456789", default_model: "echo" } }));
const ofConfig = { path: { user_id: user.id, provider_id: provider.id } };
answered(await api.listConfigs());
answered(await api.getConfig(ofConfig));
answered(await api.replaceConfig({ ...ofConfig, body: { api_key: "sk-echo-9876543210", default_model: "echo" } }));
answered(await api.listModels(ofProvider));
answered(await api.checkProvider({ ...ofProvider, body: {} }));

const body = { conversation_id, provider_id: provider.id };
answered(await api.previewCompletion({ body }));
const streamed = await api.createCompletion({ body: { ...body, content: "One two", stream: true } });
if (!(await textOf(streamed.stream)).includes("One two")) throw new Error("another text");
const [completion] = answered(await api.listCompletions(ofConversation));
if (completion === undefined) throw new Error("no completion");
const ofCompletion = { path: { completion_id: completion.id } };
answered(await api.getCompletion(ofCompletion));
if (!(await textOf((await api.getEvents(ofCompletion)).stream)).includes("One two")) throw new Error("another text");
answered(await api.createTicket(ofCompletion));
answered(await api.cancelCompletion(ofCompletion));

answered(await api.searchMessages({ query: { q: "hello" } }));
answered(await api.getUsage());
answered(await api.exportZip({ parseAs: "blob" }));
const exported = answered(await api.exportAll({ parseAs: "text" }));
answered(await api.importAll({ body: { file: new Blob([exported]) } }));

answered(await api.deleteMessage(ofMessage));
answered(await api.deleteConversation(ofConversation));
answered(await api.deleteConfig(ofConfig));
answered(await api.deleteProvider(ofProvider));
answered(await api.deleteMe({ body: {} }));
finish();
