"""Drives every operation with the client that openapi-python-client generates."""

import json
import os
import re
import sys
import time
import uuid
from io import BytesIO
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import httpx
from generated.python import AuthenticatedClient, Client, models
from generated.python.api.account import (
    create_invitation,
    create_token,
    delete_invitation,
    delete_me,
    delete_token,
    get_invitation,
    get_me,
    get_token,
    list_invitations,
    list_tokens,
    log_out,
    update_me,
)
from generated.python.api.attachments import (
    create_attachment,
    create_link,
    delete_attachment,
    get_attachment,
    get_content,
    get_text,
    list_attachments,
)
from generated.python.api.auth import log_in, refresh, register
from generated.python.api.completions import (
    cancel_completion,
    check_provider,
    create_completion,
    create_ticket,
    get_completion,
    get_events,
    list_completions,
    list_models,
    preview_completion,
)
from generated.python.api.conversations import (
    create_conversation,
    delete_conversation,
    get_conversation,
    list_conversations,
    update_conversation,
)
from generated.python.api.llm_providers import (
    create_provider,
    delete_provider,
    get_provider,
    list_catalog,
    list_providers,
    update_provider,
)
from generated.python.api.messages import create_message, delete_message, get_message, list_messages
from generated.python.api.operations import get_health, get_metrics, get_readiness
from generated.python.api.search import search_messages
from generated.python.api.transfer import export_all, export_zip, import_all
from generated.python.api.usage import get_usage
from generated.python.api.user_llm_configs import (
    create_config,
    delete_config,
    get_config,
    list_configs,
    replace_config,
)
from generated.python.types import File

Kind = TypeVar("Kind")
CALLS: list[tuple[str, str, int]] = []
BASE_URL, PROVIDER, PASSWORD = (os.environ[name] for name in ("BASE_URL", "PROVIDER", "PASSWORD"))
METHODS = ("get", "post", "put", "patch", "delete")


def record(response: httpx.Response) -> None:
    CALLS.append((response.request.method.lower(), response.request.url.path, response.status_code))


OPTIONS: dict[str, Any] = {"event_hooks": {"response": [record]}}


def as_user(token: str) -> AuthenticatedClient:
    return AuthenticatedClient(base_url=BASE_URL, token=token, httpx_args=OPTIONS)


def found(answer: Any, kind: type[Kind]) -> Kind:
    """The answer, which must be of this kind."""
    if not isinstance(answer, kind):
        raise SystemExit(f"{kind.__name__} expected: {answer}")
    return answer


def text_of(lines: str) -> str:
    """The text of a stream of events."""
    text = ""
    for line in lines.splitlines():
        if not line.startswith("data: "):
            continue
        content = json.loads(line[6:])
        if content["type"] == "completion.delta":
            text += models.DeltaEvent.from_dict(content).delta
        elif content["type"] == "completion.completed":
            assert models.CompletedEvent.from_dict(content).completion.status == "completed"
            return text
    raise SystemExit(f"no end: {lines}")


def accounts(client: Client) -> tuple[AuthenticatedClient, models.User]:
    email, password = f"python-{uuid.uuid4().hex}@example.org", "correct horse battery staple"
    body = models.RegisterWithInvitation(email=email, password=password)
    user = found(register.sync(client=client, body=body), models.User)
    pair = found(log_in.sync(client=client, body=models.LogIn(email, password)), models.TokenPair)
    pair = found(refresh.sync(client=as_user(pair.refresh_token)), models.TokenPair)
    me = as_user(pair.access_token)
    found(get_me.sync(client=me), models.User)
    changed = models.ChangePassword(current_password=password, password="another horse battery")
    found(update_me.sync(client=me, body=changed), models.User)
    token = found(create_token.sync(client=me, body=models.CreateToken(name="script")), models.NewToken)
    found(list_tokens.sync(client=me, limit=10), list)
    found(get_token.sync(token.id, client=me), models.Token)
    delete_token.sync_detailed(token.id, client=me)
    pair = found(
        log_in.sync(client=client, body=models.LogIn(os.environ["ADMIN"], PASSWORD)), models.TokenPair
    )
    admin = as_user(pair.access_token)
    made = create_invitation.sync(client=admin, body=models.CreateInvitation())
    invitation = found(made, models.NewInvitation)
    found(list_invitations.sync(client=admin), list)
    found(get_invitation.sync(invitation.id, client=admin), models.Invitation)
    delete_invitation.sync_detailed(invitation.id, client=admin)
    for_user = models.CreateConversation(title="Made by an admin")
    for_them = create_conversation.sync(client=admin, body=for_user, x_act_as=str(user.id))
    assert found(for_them, models.Conversation).user_id == user.id
    log_out.sync_detailed(client=admin)
    return me, user


def wait_for_text(me: AuthenticatedClient, upload: models.Attachment) -> None:
    """Wait until the text of an upload is extracted."""
    headers = {"Authorization": f"Bearer {me.token}"}
    for _ in range(150):
        try:
            urlopen(Request(f"{BASE_URL}/chat/attachments/{upload.id}/text", headers=headers)).close()
        except HTTPError as error:
            if error.code != 409:
                raise
            time.sleep(0.2)
        else:
            return
    raise SystemExit("no text")


def messages(me: AuthenticatedClient) -> tuple[models.Conversation, models.Message]:
    made = create_conversation.sync(client=me, body=models.CreateConversation(title="Trip"))
    conversation = found(made, models.Conversation)
    found(list_conversations.sync(client=me), list)
    found(get_conversation.sync(conversation.id, client=me), models.Conversation)
    changes = models.UpdateConversation(pinned=True)
    found(update_conversation.sync(conversation.id, client=me, body=changes), models.Conversation)
    body = models.CreateMessage(
        conversation_id=conversation.id, role=models.CreateMessageRole("user"), content="Hello there"
    )
    message = found(create_message.sync(client=me, body=body, idempotency_key="once"), models.Message)
    found(list_messages.sync(conversation.id, client=me), list)
    found(get_message.sync(message.id, client=me), models.Message)
    file = models.CreateAttachment(message_id=message.id, file_type="image/png", file_path="a.png")
    attachment = found(create_attachment.sync(client=me, body=file), models.Attachment)
    found(list_attachments.sync(message.id, client=me), list)
    found(get_attachment.sync(attachment.id, client=me), models.Attachment)
    delete_attachment.sync_detailed(attachment.id, client=me)
    places = models.CreateAttachmentFilesBody(file=File(BytesIO(b"Lisbon, Porto"), "places.txt"))
    upload = found(create_attachment.sync(client=me, body=places), models.Attachment)
    assert get_content.sync_detailed(upload.id, client=me).content == b"Lisbon, Porto"
    wanted = models.CreateLink(expires_in_s=60, single_use=True)
    link = found(create_link.sync(upload.id, client=me, body=wanted), models.Link)
    assert urlopen(BASE_URL + link.url).read() == b"Lisbon, Porto"
    wait_for_text(me, upload)
    assert get_text.sync_detailed(upload.id, client=me).content == b"Lisbon, Porto"
    return conversation, message


def providers(me: AuthenticatedClient, user: models.User) -> models.Provider:
    found(list_catalog.sync(client=me), list)
    made = create_provider.sync(client=me, body=models.CreateProvider(name="Echo", api_endpoint=PROVIDER))
    provider = found(made, models.Provider)
    assert provider.shared is False
    found(list_providers.sync(client=me), list)
    found(get_provider.sync(provider.id, client=me), models.Provider)
    changes = models.UpdateProvider(context_window=8192)
    found(update_provider.sync(provider.id, client=me, body=changes), models.Provider)
    config = models.CreateConfig(provider_id=provider.id, api_key="sk-echo-0123456789", default_model="echo")
    found(create_config.sync(client=me, body=config), models.Config)
    found(list_configs.sync(client=me), list)
    found(get_config.sync(user.id, provider.id, client=me), models.Config)
    other = models.ReplaceConfig(api_key="sk-echo-9876543210", default_model="echo")
    found(replace_config.sync(user.id, provider.id, client=me, body=other), models.Config)
    found(list_models.sync(provider.id, client=me), list)
    found(check_provider.sync(provider.id, client=me, body=models.CheckProvider()), models.ProviderCheck)
    return provider


def completions(
    me: AuthenticatedClient, conversation: models.Conversation, provider: models.Provider
) -> None:
    body = models.CreateCompletion(conversation_id=conversation.id, provider_id=provider.id)
    found(preview_completion.sync(client=me, body=body), models.Preview)
    whole = found(create_completion.sync(client=me, body=body), models.Completion)
    found(list_completions.sync(conversation.id, client=me), list)
    found(get_completion.sync(whole.id, client=me), models.Completion)
    # the client has no word for a stream: its request, and its types for what comes
    streamed = models.CreateCompletion(
        conversation_id=conversation.id, provider_id=provider.id, content="One two", stream=True
    )
    for options in (create_completion._get_kwargs(body=streamed), get_events._get_kwargs(whole.id)):
        with me.get_httpx_client().stream(**options) as response:
            text = "\n".join(response.iter_lines())
        assert "You said:" in text_of(text)
    found(create_ticket.sync(whole.id, client=me), models.Ticket)
    found(cancel_completion.sync(whole.id, client=me), models.Completion)


def the_rest(me: AuthenticatedClient) -> None:
    found(search_messages.sync(client=me, q="hello"), list)
    found(get_usage.sync(client=me), models.Quotas)
    assert export_zip.sync_detailed(client=me).content.startswith(b"PK")
    exported = export_all.sync_detailed(client=me).content
    file = models.ImportAllFilesBody(file=File(BytesIO(exported), "export.ndjson", "application/x-ndjson"))
    found(import_all.sync(client=me, body=file), models.ImportReport)


def missing() -> list[str]:
    """The operations that were not driven with success."""
    with open(os.environ["DOCUMENT"]) as file:
        paths = json.load(file)["paths"]
    found = []
    for template, item in paths.items():
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", template))
        # /chat/llm-providers/catalog is no call of /chat/llm-providers/{provider_id}
        driven = {
            method
            for method, path, status in CALLS
            if status < 300 and (path == template or (pattern.fullmatch(path) and path not in paths))
        }
        found += [f"{method} {template}" for method in METHODS if method in item and method not in driven]
    return found


def main() -> None:
    client = Client(base_url=BASE_URL, httpx_args=OPTIONS)
    found(get_health.sync(client=client), models.Health)
    found(get_readiness.sync(client=client), models.Health)
    found(get_metrics.sync(client=as_user(os.environ["METRICS_TOKEN"])), str)
    me, user = accounts(client)
    conversation, message = messages(me)
    provider = providers(me, user)
    completions(me, conversation, provider)
    the_rest(me)
    delete_message.sync_detailed(message.id, client=me)
    delete_conversation.sync_detailed(conversation.id, client=me)
    delete_config.sync_detailed(user.id, provider.id, client=me)
    delete_provider.sync_detailed(provider.id, client=me)
    delete_me.sync_detailed(client=me, body=models.EraseAccount())
    failed = [call for call in CALLS if call[2] >= 400]
    report = {"calls": len(CALLS), "failed": failed, "missing": missing()}
    sys.stdout.write(json.dumps(report) + "\n")


main()
