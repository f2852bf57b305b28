"""LiteLLM's SDK."""

import json
from types import SimpleNamespace
from typing import Any

import litellm
from driving import GET_WEATHER, WEATHER, drive, limit_of, weather_of

litellm.telemetry = False
FORMAT = {"name": "weather", "schema": WEATHER, "strict": True}


def service_of(order: SimpleNamespace) -> dict[str, Any]:
    """Where requests go."""
    return {"api_base": order.base_url, "api_key": order.key, "max_retries": 0}


def reply(order: SimpleNamespace, messages: list[Any], **more: Any) -> Any:
    """A message of the model, streamed or not."""
    given: dict[str, Any] = {
        "model": f"openai/{order.model}",
        "messages": messages,
        **service_of(order),
        **more,
    }
    if not order.stream:
        return litellm.completion(**given).choices[0].message
    chunks = list(litellm.completion(**given, stream=True))
    built: Any = litellm.stream_chunk_builder(chunks, messages=messages)
    return built.choices[0].message


def respond(order: SimpleNamespace, given: Any, **more: Any) -> Any:
    """A response, streamed or not."""
    answer: Any = litellm.responses(
        model=f"openai/{order.model}", input=given, stream=order.stream, **service_of(order), **more
    )
    if not order.stream:
        return answer
    *_, last = answer
    if last.response.status == "failed":  # it has no exception for what breaks off
        raise RuntimeError(last.response.error)
    return last.response


def text_of(answer: Any) -> str:
    """The text of a response."""
    messages = [item for item in answer.output if item.type == "message"]
    return "".join(part.text for message in messages for part in message.content)


def said(text: str) -> Any:
    return {"role": "user", "content": text}


def ask(order: SimpleNamespace) -> str:
    if order.api == "responses":
        return text_of(respond(order, order.text))
    return reply(order, [said(order.text)], **limit_of(order)).content


def talk(order: SimpleNamespace) -> list[str]:
    texts: list[str] = []
    messages: list[Any] = []
    before = None
    for text in order.texts:
        if order.api == "responses":
            answer = respond(order, text, previous_response_id=before)
            before = answer.id
            texts.append(text_of(answer))
            continue
        messages.append(said(text))
        messages.append(reply(order, messages))
        texts.append(messages[-1].content)
    return texts


def use_tools(order: SimpleNamespace) -> str:
    if order.api == "responses":
        tools, given, before = [{"type": "function", **GET_WEATHER}], order.text, None
        while True:
            answer = respond(order, given, tools=tools, previous_response_id=before)
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                return text_of(answer)
            before = answer.id
            given = [
                {
                    "type": "function_call_output",
                    "call_id": call.call_id,
                    "output": weather_of(**json.loads(call.arguments)),
                }
                for call in calls
            ]
    tools, messages = [{"type": "function", "function": GET_WEATHER}], [said(order.text)]
    while True:
        answer = reply(order, messages, tools=tools)
        if not answer.tool_calls:
            return answer.content
        messages.append(answer)
        for call in answer.tool_calls:
            result = weather_of(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def fill(order: SimpleNamespace) -> Any:
    if order.api == "responses":
        text = {"format": {"type": "json_schema", **FORMAT}}
        return json.loads(text_of(respond(order, order.text, text=text)))
    form = {"type": "json_schema", "json_schema": FORMAT}
    return json.loads(reply(order, [said(order.text)], response_format=form).content)


def look(order: SimpleNamespace) -> str:
    if order.api == "responses":
        parts = [
            {"type": "input_text", "text": order.text},
            {"type": "input_image", "image_url": order.image},
        ]
        return text_of(respond(order, [{"role": "user", "content": parts}]))
    parts = [{"type": "text", "text": order.text}, {"type": "image_url", "image_url": {"url": order.image}}]
    return reply(order, [{"role": "user", "content": parts}]).content


if __name__ == "__main__":
    drive(ask, talk, use_tools, fill, look)
