"""Tools and formats of a reply: as Responses write them, as chat.completions do, and as answers repeat them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import RequestRefused

CHOICES = ("auto", "none", "required")
FORMATS = ("text", "json_object", "json_schema")


def echoed_tools(sent: Any) -> list[dict[str, Any]]:
    """The tools of a request as answers repeat them, with all fields. Raises RequestRefused."""
    if not isinstance(sent, list):
        raise RequestRefused("tools must be a list.", param="tools")
    return [_echoed_tool(tool, f"tools[{index}]") for index, tool in enumerate(sent)]


def as_functions(
    tools: Sequence[Mapping[str, Any]], sent: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The tools as chat.completions has them; `sent` says which fields were given."""
    return [
        {
            "type": "function",
            "function": {
                name: tool[name]
                for name in ("name", "description", "parameters", "strict")
                if given.get(name) is not None
            },
        }
        for tool, given in zip(tools, sent, strict=True)
    ]


def chosen(choice: Any, functions: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Any]:
    """The functions that may be called, and the choice among them as chat.completions has it. Raises RequestRefused."""
    if choice is None or choice in CHOICES:
        return functions, choice
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "function":
        return functions, {"type": "function", "function": {"name": _name_of(choice, "tool_choice")}}
    if kind == "allowed_tools":
        mode, allowed = choice.get("mode", "auto"), choice.get("tools")
        if mode not in ("auto", "required"):
            raise RequestRefused("tool_choice.mode must be auto or required.", param="tool_choice.mode")
        if not isinstance(allowed, list):
            raise RequestRefused("tool_choice.tools must be a list.", param="tool_choice.tools")
        names = {_name_of(tool, f"tool_choice.tools[{index}]") for index, tool in enumerate(allowed)}
        found = [function for function in functions if function["function"].get("name") in names]
        if not found:
            raise RequestRefused("tool_choice.tools names none of the tools.", param="tool_choice.tools")
        return found, mode
    raise RequestRefused(
        f"tool_choice must be one of {', '.join(CHOICES)}, a function, or allowed_tools.", param="tool_choice"
    )


def echoed_format(sent: Any) -> dict[str, Any]:
    """The format of the reply's text as answers repeat it. Raises RequestRefused."""
    where = "text.format"
    kind = sent.get("type") if isinstance(sent, dict) else None
    if kind not in FORMATS:
        raise RequestRefused(f"{where}.type must be one of {', '.join(FORMATS)}.", param=f"{where}.type")
    if kind != "json_schema":
        return {"type": kind}
    if not isinstance(sent.get("schema"), dict):
        raise RequestRefused(f"{where}.schema must be an object.", param=f"{where}.schema")
    strict = sent.get("strict")
    return {
        "type": kind,
        "name": _name_of(sent, where),
        "description": sent.get("description"),
        "schema": sent["schema"],
        "strict": True if strict is None else strict,
    }


def as_response_format(sent: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same as chat.completions has it; None for plain text."""
    if sent["type"] == "text":
        return None
    if sent["type"] != "json_schema":
        return {"type": sent["type"]}
    given = ("name", "description", "schema", "strict")
    schema = {name: sent[name] for name in given if sent.get(name) is not None}
    return {"type": "json_schema", "json_schema": schema}


def _echoed_tool(tool: Any, where: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise RequestRefused(f"{where} must be an object.", param=where)
    if tool.get("type") != "function":
        raise RequestRefused(
            f"{where}.type: only functions can be called here.", param=where, code="unsupported_tool"
        )
    strict = tool.get("strict")
    return {
        "type": "function",
        "name": _name_of(tool, where),
        "description": tool.get("description"),
        "parameters": tool.get("parameters"),
        "strict": True if strict is None else strict,
    }


def _name_of(value: Any, where: str) -> str:
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or not name:
        raise RequestRefused(f"{where}.name must be a string.", param=f"{where}.name")
    return name
