"""Names of tools that every server takes: what is sent for those that some refuse."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .untrusted_json import as_dict, as_list

# OpenAI's and Anthropic's characters, and the beginning that Google and Moonshot want
_FITS = re.compile("[A-Za-z_][A-Za-z0-9_-]{0,63}")
_OTHER = re.compile("[^A-Za-z0-9_-]")
_LENGTH = 64
_HASH_LENGTH = 8


def fit_names(names: Iterable[str]) -> dict[str, str]:
    """What is sent for the names that some server refuses; no two names become one."""
    names = list(dict.fromkeys(names))
    used = {name for name in names if _FITS.fullmatch(name)}
    fitted: dict[str, str] = {}
    for name in names:
        if name not in used or not _FITS.fullmatch(name):
            fitted[name] = _made(name, used)
            used.add(fitted[name])
    return fitted


def renamed_parameters(parameters: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    """The parameters with these names of tools changed."""
    if not names:
        return parameters
    renamed = dict(parameters)
    if tools := as_list(parameters.get("tools")):
        renamed["tools"] = [_renamed(tool, names) for tool in tools]
    if isinstance(choice := parameters.get("tool_choice"), dict):
        renamed["tool_choice"] = _renamed_choice(choice, names)
    return renamed


def _renamed_choice(choice: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A choice of one tool, or of some of them, which has a list of its own."""
    allowed = as_dict(choice.get("allowed_tools"))
    if not (tools := as_list(allowed.get("tools"))):
        renamed: dict[str, Any] = _renamed(choice, names)
        return renamed
    return {**choice, "allowed_tools": {**allowed, "tools": [_renamed(tool, names) for tool in tools]}}


def _renamed(tool: Any, names: Mapping[str, str]) -> Any:
    function = as_dict(as_dict(tool).get("function"))
    name = function.get("name")
    if not (isinstance(name, str) and name in names):
        return tool
    return {**tool, "function": {**function, "name": names[name]}}


def _made(name: str, used: set[str]) -> str:
    made = _OTHER.sub("_", name)[:_LENGTH] or "tool"
    if not _FITS.fullmatch(made):
        made = f"_{made}"[:_LENGTH]
    base, attempt = made, 0
    while made in used:
        digest = hashlib.sha256(f"{attempt} {name}".encode(errors="replace")).hexdigest()[:_HASH_LENGTH]
        made = f"{base[: _LENGTH - _HASH_LENGTH - 1]}_{digest}"
        attempt += 1
    return made
