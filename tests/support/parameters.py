"""What each provider gets for each parameter, found out by building the bodies."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chat_api.llm.options import RequestOptions
from chat_api.llm.protocols import protocol_of
from chat_api.llm.request import ChatMessage, ChatRequest, Endpoint
from chat_api.llm.vendors import options_of, vendors

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("f", "g")
]
SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}}
# a value of each parameter, and what has to be there for it to matter
SAMPLES: Mapping[str, tuple[Any, dict[str, Any]]] = {
    "temperature": (0.5, {}),
    "top_p": (0.5, {}),
    "top_k": (20, {}),
    "min_p": (0.1, {}),
    "repetition_penalty": (1.1, {}),
    "presence_penalty": (0.5, {}),
    "frequency_penalty": (0.5, {}),
    "seed": (7, {}),
    "logit_bias": ({"5": 1}, {}),
    "max_tokens": (5000, {}),
    "max_completion_tokens": (5000, {}),
    "stop": (["END"], {}),
    "reasoning_effort": ("high", {}),
    "thinking_budget_tokens": (8000, {}),
    "verbosity": ("low", {}),
    "response_format": ({"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}, {}),
    "tools": (TOOLS, {}),
    "tool_choice": ("required", {"tools": TOOLS}),
    "parallel_tool_calls": (False, {"tools": TOOLS}),
    "modalities": (["text", "audio"], {}),
    "cache": (True, {}),
    "logprobs": (True, {}),
    "top_logprobs": (5, {}),
    "service_tier": ("default", {}),
    "user": ("u-1", {}),
    "safety_identifier": ("u-1", {}),
    "metadata": ({"team": "a"}, {}),
    "store": (False, {}),
    "chat_template_kwargs": ({"enable_thinking": False}, {}),
    "extra": ({"field": 1}, {}),
}
MISSING = object()


@dataclass(frozen=True)
class Target:
    """A model at a vendor."""

    label: str
    model: str
    endpoint: Endpoint

    def body(self, **parameters: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The body for these parameters, and the warnings."""
        messages = (ChatMessage("system", "Be brief."), ChatMessage("user", "Hi"))
        request = ChatRequest(self.model, messages, parameters, cache_key="conversation")
        built = protocol_of(self.endpoint).request_body(request, self.endpoint)
        return json.loads(json.dumps(built.fields)), built.warnings

    def effect(self, name: str, value: Any = MISSING) -> tuple[dict[str, Any], list[str]]:
        """The fields of the body that a parameter adds or changes, and the warnings about it."""
        sample, others = SAMPLES[name]
        before, _ = self.body(**others)
        after, warnings = self.body(**others, **{name: sample if value is MISSING else value})
        changed = {
            field: after.get(field)
            for field in {**before, **after}
            if field != "messages" and before.get(field) != after.get(field)
        }
        if before["messages"] != after["messages"]:
            changed["messages"] = "marked"
        return changed, [warning for warning in warnings if warning.startswith(f"{name}: ")]


def _target(label: str, model: str, vendor_id: str | None, api_format: str = "openai") -> Target:
    vendor = vendors()[vendor_id] if vendor_id else None
    options = options_of(vendor) if vendor else RequestOptions()
    api_format = vendor.api_format if vendor else api_format
    return Target(label, model, Endpoint(api_format, "https://x.example/v1", "k", options=options))


CLAUDE = (
    _target("Claude up to 4.5", "claude-sonnet-4-5", "anthropic"),
    _target("Claude 4.6", "claude-opus-4-6", "anthropic"),
    _target("Claude 4.7 to 5", "claude-opus-5", "anthropic"),
    _target("Claude 5.5", "claude-opus-5-5", "anthropic"),
)
OTHERS = (
    _target("OpenAI, Azure", "gpt-5.6", "openai"),
    _target("Gemini", "gemini-3.8-flash", "gemini"),
    _target("DeepSeek", "deepseek-v4-pro", "deepseek"),
    _target("Mistral", "mistral-medium-3.5", "mistral"),
    _target("Groq", "openai/gpt-oss-120b", "groq"),
    _target("xAI", "grok-4.3", "xai"),
    _target("OpenRouter", "anthropic/claude-sonnet-5", "openrouter"),
    _target("Perplexity", "sonar-pro", "perplexity"),
    _target("Together", "openai/gpt-oss-120b", "together"),
    _target("Fireworks", "accounts/fireworks/models/glm-5", "fireworks"),
    _target("Cerebras", "gpt-oss-120b", "cerebras"),
    _target("Moonshot", "kimi-k3", "moonshot"),
    _target("Z.ai", "glm-5.2", "zai"),
    _target("DashScope", "qwen3.8-plus", "dashscope"),
    _target("vLLM", "qwen3", "vllm"),
    _target("llama.cpp", "qwen3", "llamacpp"),
    _target("LM Studio", "gpt-oss-20b", "lmstudio"),
    _target("Ollama", "gpt-oss:20b", "ollama"),
    _target("any other server", "m", None),
)
TARGETS = (*CLAUDE, *OTHERS)


def reasoning_table() -> str:
    """What is sent for how much a model thinks, as a table in Markdown."""
    lines = [
        '| provider | `reasoning_effort: "none"` | `"high"` | `"max"` | `thinking_budget_tokens: 8000` |',
        "| --- | --- | --- | --- | --- |",
    ]
    for target in TARGETS:
        cells = [_cell(target, "reasoning_effort", word) for word in ("none", "high", "max")]
        cells.append(_cell(target, "thinking_budget_tokens", 8000))
        lines.append(f"| {target.label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parameters_table() -> str:
    """For each parameter where it is sent otherwise than under its name, and where not, as a table in Markdown."""
    lines = [
        "| parameter | sent under its own name | otherwise | not sent, with a warning |",
        "| --- | --- | --- | --- |",
    ]
    for name in SAMPLES:
        if name not in ("reasoning_effort", "thinking_budget_tokens", "extra"):
            lines.append(f"| `{name}` | " + " | ".join(_row(name)) + " |")
    return "\n".join(lines)


def _row(name: str) -> tuple[str, str, str]:
    same: list[str] = []
    otherwise: dict[str, list[str]] = {}
    nowhere: list[str] = []
    for target in TARGETS:
        changed, warnings = target.effect(name)
        value = json.loads(json.dumps(SAMPLES[name][0]))
        if not changed and warnings:
            nowhere.append(target.label)
        elif changed == {name: value} and not warnings:
            same.append(target.label)
        elif changed:
            form = f"`{_shown(changed)}`" + (" (warning)" if warnings else "")
            otherwise.setdefault(form, []).append(target.label)
    others = "; ".join(f"{form}: {_listed(labels)}" for form, labels in otherwise.items())
    rest = "all others" if len(same) > len(TARGETS) // 2 else _listed(same)
    return rest or "–", others or "–", _listed(nowhere) or "–"


def _listed(labels: list[str]) -> str:
    """Labels with commas; all models of Claude are one."""
    if len(labels) == len(TARGETS):
        return "everywhere"
    claude = [target.label for target in CLAUDE]
    if set(claude) <= set(labels):
        labels = ["Claude", *(label for label in labels if label not in claude)]
    return ", ".join(labels)


def _cell(target: Target, name: str, value: Any) -> str:
    changed, warnings = target.effect(name, value)
    text = f"`{_shown(changed)}`" if changed else "not sent"
    return text + (" (warning)" if warnings else "")


def _shown(changed: dict[str, Any]) -> str:
    """Fields as JSON without the outer braces; what is long is cut."""
    if "messages" in changed:
        changed = {**changed, "messages": "…"}
    if isinstance(changed.get("system"), str | list):
        changed = {**changed, "system": "…"}
    if "tools" in changed:
        changed = {**changed, "tools": "…"}
    if "schema" in json.dumps(changed):
        changed = json.loads(
            json.dumps(changed).replace(json.dumps({**SCHEMA, "additionalProperties": False}), '"…"')
        )
    return json.dumps(changed, ensure_ascii=False)[1:-1]
