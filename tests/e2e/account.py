"""A user of the running service as programs for OpenAI's API know it: a key and the name of a model."""

import uuid
from typing import Any

from tests.e2e.llama import MODEL, LlamaServer
from tests.support.api import PASSWORD
from tests.support.provider import Answer, ScriptedProvider
from tests.support.server import GunicornServer


class Account:
    """A new user with a personal access token and a provider: a scripted one, or llama.cpp's server."""

    def __init__(
        self, server: GunicornServer, provider: ScriptedProvider | LlamaServer, name: str = "Scripted"
    ) -> None:
        self.server, self._provider = server, provider
        body = {"email": f"{uuid.uuid4().hex}@example.org", "password": PASSWORD}
        self.user_id: str = self._made("/auth/register", body)["id"]
        self.token: str = self._made("/auth/login", body, status=200)["access_token"]
        if isinstance(provider, LlamaServer):
            name, url, key, self.model = "Llama", provider.base_url, provider.api_key, MODEL
        else:
            url, key = provider.url, "sk-0123456789"
            self.model = f"model-{uuid.uuid4().hex[:12]}"
        made = self._made("/chat/llm-providers", {"name": name, "api_endpoint": url})
        config = {"user_id": self.user_id, "provider_id": made["id"], "api_key": key}
        self._made("/chat/user-llm-configs", config)
        self.key: str = self._made("/auth/tokens", {"name": "sdk"})["token"]
        self._slug, self._newest = name.lower(), ""

    def begin_again(self) -> None:
        """Forget what was there: a new model, whose conversation is another one."""
        self.model = f"model-{uuid.uuid4().hex[:12]}"
        self._newest = max((one["id"] for one in self.get("/chat/conversations")), default="")

    @property
    def name(self) -> str:
        """The model as programs name it."""
        return f"{self._slug}/{self.model}"

    @property
    def base_url(self) -> str:
        """What is configured in programs."""
        return f"{self.server.base_url}/v1"

    @property
    def provider(self) -> ScriptedProvider:
        """The scripted provider."""
        assert isinstance(self._provider, ScriptedProvider)
        return self._provider

    def script(self, *answers: Answer) -> None:
        """What the provider answers, one each; the last one is for all that follow."""
        self.provider.script(*answers, model=self.model)

    def sent(self) -> list[Any]:
        """The bodies that the provider got, in order."""
        return [request.json for request in self.provider.of_model(self.model)]

    def get(self, path: str) -> Any:
        """What the native API says."""
        status, _, content = self.server.request("GET", path, token=self.token)
        assert status == 200, content
        return content

    def messages(self) -> list[dict[str, Any]]:
        """The messages of the only conversation since the beginning, if there is one."""
        begun = [one for one in self.get("/chat/conversations") if one["id"] > self._newest]
        if not begun:
            return []
        [conversation] = begun
        found: list[dict[str, Any]] = self.get(f"/chat/conversations/{conversation['id']}/messages")
        return found

    def _made(self, path: str, body: dict[str, Any], status: int = 201) -> dict[str, Any]:
        token = getattr(self, "token", None)
        got, _, content = self.server.request("POST", path, body, token)
        assert got == status, content
        result: dict[str, Any] = content
        return result
