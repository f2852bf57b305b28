// Drives every operation with openapi-typescript's types and openapi-fetch.

import createClient from "openapi-fetch";
import { answered, baseUrl, finish, recorded, setting, textIsReady } from "./driven.ts";
import type { components, paths } from "./generated/types.ts";

type CompletionEvent = components["schemas"]["CompletionEvent"];

const client = createClient<paths>({ baseUrl, fetch: recorded });
const as = (token: string) => ({ Authorization: `Bearer ${token}` });

/** The text of a stream of events, told apart by their `type`. */
const textOf = (stream: string): string => {
  let text = "";
  let ended = false;
  for (const line of stream.split("\n").filter(line => line.startsWith("data: "))) {
    const event = JSON.parse(line.slice(6)) as CompletionEvent;
    switch (event.type) {
      case "completion.delta": text += event.delta; break;
      case "completion.completed": ended = event.completion.status === "completed"; break;
      case "completion.failed": throw new Error(event.problem.detail);
      default: break;
    }
  }
  if (!ended) throw new Error("no end");
  return text;
};

answered(await client.GET("/healthz"));
answered(await client.GET("/readyz"));
answered(await client.GET("/metrics", { headers: as(setting("METRICS_TOKEN")), parseAs: "text" }));

const credentials = { email: `fetch-${Date.now()}@example.org`, password: "correct horse battery staple" };
const user = answered(await client.POST("/auth/register", { body: credentials }));
const first = answered(await client.POST("/auth/login", { body: credentials }));
const pair = answered(await client.POST("/auth/refresh", { headers: as(first.refresh_token) }));
const headers = as(pair.access_token);

answered(await client.GET("/auth/me", { headers }));
answered(await client.PATCH("/auth/me", { headers, body: { current_password: credentials.password, password: "another horse battery" } }));
const token = answered(await client.POST("/auth/tokens", { headers, body: { name: "script" } }));
answered(await client.GET("/auth/tokens", { headers, params: { query: { limit: 10 } } }));
const ofToken = { headers, params: { path: { token_id: token.id } } };
answered(await client.GET("/auth/tokens/{token_id}", ofToken));
answered(await client.DELETE("/auth/tokens/{token_id}", ofToken));

const admin = answered(await client.POST("/auth/login", { body: { email: setting("ADMIN"), password: setting("PASSWORD") } }));
const invitation = answered(await client.POST("/auth/invitations", { headers: as(admin.access_token), body: {} }));
answered(await client.GET("/auth/invitations", { headers: as(admin.access_token) }));
const ofInvitation = { headers: as(admin.access_token), params: { path: { invitation_id: invitation.id } } };
answered(await client.GET("/auth/invitations/{invitation_id}", ofInvitation));
answered(await client.DELETE("/auth/invitations/{invitation_id}", ofInvitation));

const conversation = answered(await client.POST("/chat/conversations", { headers, body: { title: "Trip" } }));
const ofConversation = { headers, params: { path: { conversation_id: conversation.id } } };
answered(await client.GET("/chat/conversations", { headers }));
answered(await client.GET("/chat/conversations/{conversation_id}", ofConversation));
answered(await client.PATCH("/chat/conversations/{conversation_id}", { ...ofConversation, body: { pinned: true } }));
const message = answered(await client.POST("/chat/messages", {
  headers,
  params: { header: { "Idempotency-Key": crypto.randomUUID() } },
  body: { conversation_id: conversation.id, role: "user", content: "Hello there" },
}));
const ofMessage = { headers, params: { path: { message_id: message.id } } };
answered(await client.GET("/chat/conversations/{conversation_id}/messages", ofConversation));
answered(await client.GET("/chat/messages/{message_id}", ofMessage));
const attachment = answered(await client.POST("/chat/attachments", {
  headers, body: { message_id: message.id, file_type: "image/png", file_path: "a.png" },
}));
const ofAttachment = { headers, params: { path: { attachment_id: attachment.id } } };
answered(await client.GET("/chat/messages/{message_id}/attachments", ofMessage));
answered(await client.GET("/chat/attachments/{attachment_id}", ofAttachment));
answered(await client.DELETE("/chat/attachments/{attachment_id}", ofAttachment));
const form = new FormData();
form.set("file", new Blob(["Lisbon, Porto"]), "places.txt");
const upload = answered(await client.POST("/chat/attachments", { headers, body: form as unknown as { file: string }, bodySerializer: () => form }));
const ofUpload = { headers, params: { path: { attachment_id: upload.id } } };
const content = answered(await client.GET("/chat/attachments/{attachment_id}/content", { ...ofUpload, parseAs: "text" }));
if (content !== "Lisbon, Porto") throw new Error(String(content));
const link = answered(await client.POST("/chat/attachments/{attachment_id}/link", { ...ofUpload, body: { expires_in_s: 60, single_use: true } }));
if (await (await fetch(baseUrl + link.url)).text() !== "Lisbon, Porto") throw new Error(link.url);
await textIsReady(upload.id, pair.access_token);
const text = answered(await client.GET("/chat/attachments/{attachment_id}/text", { ...ofUpload, parseAs: "text" }));
if (text !== "Lisbon, Porto") throw new Error(text);

answered(await client.GET("/chat/llm-providers/catalog", { headers }));
const provider = answered(await client.POST("/chat/llm-providers", { headers, body: { name: "Echo", api_endpoint: setting("PROVIDER") } }));
if (provider.shared !== false) throw new Error("shared");
const ofProvider = { headers, params: { path: { provider_id: provider.id } } };
answered(await client.GET("/chat/llm-providers", { headers }));
answered(await client.GET("/chat/llm-providers/{provider_id}", ofProvider));
answered(await client.PATCH("/chat/llm-providers/{provider_id}", { ...ofProvider, body: { context_window: 8192 } }));
answered(await client.POST("/chat/user-llm-configs", { headers, body: { provider_id: provider.id, api_key: "sk-echo-0123456789", default_model: "echo" } }));
const ofConfig = { headers, params: { path: { user_id: user.id, provider_id: provider.id } } };
answered(await client.GET("/chat/user-llm-configs", { headers }));
answered(await client.GET("/chat/user-llm-configs/{user_id}/{provider_id}", ofConfig));
answered(await client.PUT("/chat/user-llm-configs/{user_id}/{provider_id}", { ...ofConfig, body: { api_key: "sk-echo-9876543210", default_model: "echo" } }));
const models = answered(await client.GET("/chat/llm-providers/{provider_id}/models", ofProvider));
if (!models.some(model => model.id === "echo")) throw new Error(JSON.stringify(models));
answered(await client.POST("/chat/llm-providers/{provider_id}/check", { ...ofProvider, body: {} }));

const body = { conversation_id: conversation.id, provider_id: provider.id };
answered(await client.POST("/chat/completions/preview", { headers, body }));
const whole = await client.POST("/chat/completions", { headers, body });
if (whole.response.status !== 201) throw new Error(JSON.stringify(whole.error));
const streamed = answered(await client.POST("/chat/completions", { headers, body: { ...body, content: "One two", stream: true }, parseAs: "text" }));
if (!textOf(streamed as unknown as string).includes("One two")) throw new Error(String(streamed));
const [completion] = answered(await client.GET("/chat/conversations/{conversation_id}/completions", ofConversation));
if (completion === undefined) throw new Error("no completion");
const ofCompletion = { headers, params: { path: { completion_id: completion.id } } };
answered(await client.GET("/chat/completions/{completion_id}", ofCompletion));
const events = answered(await client.GET("/chat/completions/{completion_id}/events", { ...ofCompletion, parseAs: "text" }));
if (!textOf(events as unknown as string).includes("Hello there")) throw new Error(String(events));
answered(await client.POST("/chat/completions/{completion_id}/events/ticket", ofCompletion));
answered(await client.POST("/chat/completions/{completion_id}/cancel", ofCompletion));

answered(await client.GET("/chat/search", { headers, params: { query: { q: "hello" } } }));
answered(await client.GET("/chat/usage", { headers }));
answered(await client.GET("/chat/export/zip", { headers, parseAs: "blob" }));
const exported = answered(await client.GET("/chat/export", { headers, parseAs: "text" }));
const file = new FormData();
file.set("file", new Blob([exported as unknown as string]), "export.ndjson");
answered(await client.POST("/chat/import", { headers, body: file as unknown as { file: string }, bodySerializer: () => file }));

answered(await client.DELETE("/chat/messages/{message_id}", ofMessage));
answered(await client.DELETE("/chat/conversations/{conversation_id}", ofConversation));
answered(await client.DELETE("/chat/user-llm-configs/{user_id}/{provider_id}", ofConfig));
answered(await client.DELETE("/chat/llm-providers/{provider_id}", ofProvider));
answered(await client.DELETE("/auth/me", { headers, body: {} }));
const last = answered(await client.POST("/auth/login", { body: { email: setting("ADMIN"), password: setting("PASSWORD") } }));
answered(await client.POST("/auth/logout", { headers: as(last.access_token) }));
finish();
