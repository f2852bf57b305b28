"""The table of vendors: well-formed, used by the code, and found by a provider's URL."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from chat_api.egress.policy import AddressPolicy
from chat_api.llm import vendors as module
from chat_api.llm.openai.dialects import DIALECTS
from chat_api.llm.options import RequestOptions
from chat_api.llm.request import API_FORMATS
from chat_api.llm.vendors import HOW_CHECKED, Vendor, options_of, vendor_of, vendors

LLM = Path(module.__file__).parent
ALL = list(vendors().values())
by_id = pytest.mark.parametrize("vendor", ALL, ids=lambda vendor: vendor.id)


def test_issue_12s_vendors_are_there() -> None:
    assert set(vendors()) >= {
        "openai", "azure", "azure-classic", "anthropic", "gemini", "deepseek", "mistral", "groq", "xai", "openrouter",
        "perplexity", "together", "fireworks", "cerebras", "moonshot", "zai", "dashscope", "bedrock",
        "bedrock-gateway", "ollama", "vllm", "llamacpp", "lmstudio",
    }  # fmt: skip


@by_id
def test_entry_is_complete(vendor: Vendor) -> None:
    assert vendor.api_format in API_FORMATS
    assert vendor.key in ("required", "optional")
    assert vendor.checked
    assert set(vendor.checked) <= set(HOW_CHECKED)
    assert set(vendor.options) <= {field.name for field in fields(RequestOptions)}
    assert vendor.options.get("dialect", "openai") in DIALECTS
    AddressPolicy(allow_loopback=True).check_url(vendor.api_endpoint.replace("{", "").replace("}", ""))


@by_id
def test_vendor_is_found_by_its_own_address(vendor: Vendor) -> None:
    """Also with a pasted path, in upper case, and not by an address that only looks like it."""
    address = vendor.api_endpoint.replace("{resource}", "mine").replace("{", "").replace("}", "")
    if not vendor.matches:
        assert vendor_of(address, vendor.api_format, None) is None
        assert vendor_of(address, vendor.api_format, vendor.id) is vendor
        return
    host, _, path = address.partition("://")[2].partition("/")
    bare = path.partition("?")[0]
    for url in (address, f"https://{host.upper()}/{bare}", f"https://{host}/{bare}/chat/completions"):
        assert vendor_of(url, vendor.api_format, None) is vendor
    assert vendor_of(f"https://evil.example/{host}/{bare}", vendor.api_format, None) is None
    assert vendor_of(address, "anthropic" if vendor.api_format == "openai" else "openai", None) is None


def test_only_one_vendor_has_an_address() -> None:
    """So their order does not matter."""
    for vendor in ALL:
        for pattern in vendor.matches:
            host, _, path = pattern.replace("*", "x").partition("/")
            url = f"https://{host}/{path}"
            assert vendor_of(url, vendor.api_format, None) is vendor, url


def test_url_says_more_than_the_catalog() -> None:
    assert vendor_of("https://api.openai.com/v1", "openai", "mistral") is vendors()["openai"]
    assert vendor_of("https://gateway.example/v1", "openai", "mistral") is vendors()["mistral"]
    assert vendor_of("https://gateway.example/v1", "anthropic", "mistral") is None
    assert vendor_of("https://gateway.example/v1", "openai", "gone-with-an-upgrade") is None


def test_later_options_win() -> None:
    mistral = vendors()["mistral"]
    assert options_of(mistral).call_ids == "mistral"
    assert options_of(mistral, {"call_ids": "any", "unknown": 1}).call_ids == "any"
    assert options_of(None) == RequestOptions()


def read_options() -> set[str]:
    """The options that some code of the adapters reads, as `options.<name>` or `self.options.<name>`."""
    found = set()
    for path in LLM.rglob("*.py"):
        if path.name in ("options.py", "demo_provider.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] in (
                "options",
                "_options",
            ):
                found.add(node.attr)
    return found


def test_every_option_is_used() -> None:
    named = {name for vendor in ALL for name in vendor.options}
    assert named <= read_options()
    assert {field.name for field in fields(RequestOptions)} <= read_options()
