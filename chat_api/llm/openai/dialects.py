"""How the vendors that speak OpenAI's protocol differ in the parameters that they take: a table of data.

What is here comes from the vendors' documents. A server that is in no row gets every parameter under OpenAI's name,
and says itself what it refuses.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...documents.image_headers import JPEG, PNG, WEBP
from ...documents.images import ImageLimits
from ..translation import EFFORTS

_OPENAI_ONLY = frozenset(
    {"verbosity", "service_tier", "safety_identifier", "metadata", "store", "modalities"}
)
_LOCAL_ONLY = frozenset({"top_k", "min_p", "repetition_penalty", "chat_template_kwargs"})
_JSON = ("text", "json_object")
_USUAL_IMAGES = ImageLimits()
_JPEG_AND_PNG = ImageLimits(media_types=frozenset((JPEG, PNG)))
_NO_GIF = ImageLimits(media_types=frozenset((JPEG, PNG, WEBP)))
# models of OpenAI that refuse parameters of sampling; newer ones do so depending on the effort
_FIXED_SAMPLING = re.compile(r"(^|/)(o[134](-|$)|gpt-5(-(mini|nano|pro|codex|20\d\d)|$))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The parameters of one vendor."""

    label: str  # in warnings
    reasoning: str = "effort"  # the function in reasoning.py
    efforts: tuple[str, ...] = EFFORTS  # the words that it takes
    has_default_effort: bool = False  # takes "default" as a word for an effort, which some of its models need
    fixed_sampling: re.Pattern[str] | None = None  # the names of models that refuse parameters of sampling
    lacks: frozenset[str] = frozenset()  # it refuses or ignores them, so they are not sent
    renamed: Mapping[str, str] = field(default_factory=dict)
    largest_temperature: float = 2
    # what it calls the choices among tools; "required" becomes "auto" where it is missing, "none" leaves the tools out
    tool_choices: Mapping[str, str] = field(
        default_factory=lambda: {"auto": "auto", "none": "none", "required": "required"}
    )
    can_name_tool: bool = True  # one function may be chosen
    allows_some_tools: bool = False  # knows a choice among some of the tools; others get only those
    response_formats: tuple[str, ...] = ("text", "json_object", "json_schema")
    image_limits: ImageLimits = _USUAL_IMAGES  # pictures beyond them are made to fit
    bare_audio: bool = False  # `input_audio` is the Base64 itself, without its format
    # what caches prompts: a "key", "blocks" that are marked, or the vendor does so by itself ("automatic")
    caching: str = "unknown"
    has_cache_retention: bool = False  # says for how long it caches


UNKNOWN = Dialect(label="The provider")

DIALECTS: Mapping[str, Dialect] = {
    "openai": Dialect(
        label="OpenAI",
        lacks=_LOCAL_ONLY,
        fixed_sampling=_FIXED_SAMPLING,
        allows_some_tools=True,
        caching="key",
        has_cache_retention=True,
    ),
    "gemini": Dialect(
        label="Gemini",
        image_limits=_NO_GIF,
        reasoning="gemini",
        efforts=("none", "minimal", "low", "medium", "high"),
        lacks=_LOCAL_ONLY | _OPENAI_ONLY | {"logit_bias", "user"},
        caching="automatic",
    ),
    "deepseek": Dialect(
        label="DeepSeek",
        reasoning="deepseek",
        lacks=_LOCAL_ONLY | _OPENAI_ONLY | {"seed", "logit_bias", "parallel_tool_calls", "user"},
        response_formats=_JSON,
        caching="automatic",
    ),
    "mistral": Dialect(
        label="Mistral",
        efforts=("none", "high"),
        lacks=_LOCAL_ONLY | (_OPENAI_ONLY - {"metadata"}) | {"logit_bias", "user"},
        renamed={"seed": "random_seed"},
        largest_temperature=1.5,
        tool_choices={"auto": "auto", "none": "none", "required": "any"},
        bare_audio=True,
        caching="key",
    ),
    "groq": Dialect(
        label="Groq",
        image_limits=ImageLimits(max_bytes=3 * 1024 * 1024),  # 4 MiB of Base64
        efforts=("none", "low", "medium", "high"),
        has_default_effort=True,
        lacks=_LOCAL_ONLY | (_OPENAI_ONLY - {"service_tier"}) | {"logit_bias"},
        caching="automatic",
    ),
    "xai": Dialect(
        label="xAI",
        image_limits=_JPEG_AND_PNG,
        efforts=("none", "low", "medium", "high"),
        lacks=_LOCAL_ONLY | (_OPENAI_ONLY - {"service_tier"}) | {"logit_bias"},
        caching="automatic",
    ),
    "openrouter": Dialect(
        label="OpenRouter",
        reasoning="openrouter",
        lacks=frozenset({"chat_template_kwargs", "store"}),
        caching="blocks",
    ),
    "perplexity": Dialect(
        label="Perplexity",
        efforts=("minimal", "low", "medium", "high"),
        lacks=_OPENAI_ONLY
        | (_LOCAL_ONLY - {"top_k"})
        | {"seed", "logit_bias", "parallel_tool_calls", "user"},
        response_formats=("text", "json_schema"),
    ),
    "together": Dialect(
        label="Together", reasoning="together", efforts=("low", "medium", "high"), lacks=_OPENAI_ONLY
    ),
    "fireworks": Dialect(
        label="Fireworks",
        reasoning="fireworks",
        lacks=(_OPENAI_ONLY - {"service_tier", "metadata"}) | {"chat_template_kwargs"},
        caching="key",
    ),
    "cerebras": Dialect(
        label="Cerebras",
        efforts=("none", "low", "medium", "high"),
        lacks=_LOCAL_ONLY
        | (_OPENAI_ONLY - {"service_tier"})
        | {"presence_penalty", "frequency_penalty", "logit_bias"},
        largest_temperature=1.5,
        caching="automatic",
    ),
    "moonshot": Dialect(
        label="Moonshot",
        reasoning="moonshot",
        efforts=("low", "high", "max"),
        lacks=_LOCAL_ONLY
        | (_OPENAI_ONLY - {"safety_identifier"})
        | {"seed", "logit_bias", "parallel_tool_calls", "user"},
        largest_temperature=1,
        tool_choices={"auto": "auto", "none": "none"},
        can_name_tool=False,
        caching="key",
    ),
    "zai": Dialect(
        label="Z.ai",
        image_limits=_JPEG_AND_PNG,
        reasoning="zai",
        lacks=_LOCAL_ONLY
        | _OPENAI_ONLY
        | {"seed", "logit_bias", "presence_penalty", "frequency_penalty", "parallel_tool_calls"},
        renamed={"user": "user_id"},
        largest_temperature=1,
        tool_choices={"auto": "auto"},
        can_name_tool=False,
        response_formats=_JSON,
        caching="automatic",
    ),
    "dashscope": Dialect(
        label="DashScope",
        reasoning="dashscope",
        lacks=_OPENAI_ONLY | {"min_p", "chat_template_kwargs", "frequency_penalty", "logit_bias", "user"},
        largest_temperature=1.99,
        tool_choices={"auto": "auto", "none": "none"},
        caching="automatic",
    ),
    "vllm": Dialect(label="vLLM", reasoning="vllm", lacks=_OPENAI_ONLY, caching="automatic"),
    "llamacpp": Dialect(
        label="llama.cpp",
        image_limits=_JPEG_AND_PNG,
        reasoning="llamacpp",
        lacks=_OPENAI_ONLY | {"user"},
        renamed={"repetition_penalty": "repeat_penalty"},
        caching="automatic",
    ),
    "lmstudio": Dialect(
        label="LM Studio",
        image_limits=_NO_GIF,
        efforts=("none", "low", "medium", "high"),
        lacks=_OPENAI_ONLY | {"user", "chat_template_kwargs", "parallel_tool_calls"},
        renamed={"repetition_penalty": "repeat_penalty"},
        caching="automatic",
    ),
    "ollama": Dialect(
        label="Ollama",
        image_limits=_JPEG_AND_PNG,
        efforts=("none", "low", "medium", "high"),
        lacks=_LOCAL_ONLY | _OPENAI_ONLY | {"logit_bias", "user", "parallel_tool_calls"},
        tool_choices={"auto": "auto"},
        can_name_tool=False,
        caching="automatic",
    ),
}


def dialect_of(name: str) -> Dialect:
    """The dialect with this name, or that of servers about which nothing is known."""
    return DIALECTS.get(name, UNKNOWN)
