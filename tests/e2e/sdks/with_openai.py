"""The `openai` package, for Python."""

import json
from types import SimpleNamespace
from typing import Any

from driving import GET_WEATHER, WEATHER, drive, limit_of, weather_of
from openai import OpenAI

FORMAT = {"name": "weather", "schema": WEATHER, "strict": True}


def client_of(order: SimpleNamespace) -> OpenAI:
    return OpenAI(base_url=order.base_url, api_key=order.key, max_retries=0)


def reply(order: SimpleNamespace, messages: list[Any], **more: Any) -> Any:
    """A message of the model, streamed or not."""
    if not order.stream:
        answer = client_of(order).chat.completions.create(model=order.model, messages=messages, **more)
        return answer.choices[0].message
    with client_of(order).chat.completions.stream(model=order.model, messages=messages, **more) as stream:
        stream.until_done()
        return stream.get_final_completion().choices[0].message


def respond(order: SimpleNamespace, given: Any, **more: Any) -> Any:
    """A response, streamed or not."""
    if not order.stream:
        return client_of(order).responses.create(model=order.model, input=given, **more)
    with client_of(order).responses.stream(model=order.model, input=given, **more) as stream:
        stream.until_done()
        return stream.get_final_response()


def said(text: str) -> Any:
    return {"role": "user", "content": text}


def ask(order: SimpleNamespace) -> str:
    if order.api == "responses":
        return respond(order, order.text).output_text
    if order.stream and order.limit:  # the helper takes a reply that was cut for a failure
        chat = client_of(order).chat.completions
        chunks = chat.create(model=order.model, messages=[said(order.text)], stream=True, **limit_of(order))
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    return reply(order, [said(order.text)], **limit_of(order)).content


def talk(order: SimpleNamespace) -> list[str]:
    texts, messages, before = [], [], None
    for text in order.texts:
        if order.api == "responses":
            answer = respond(order, text, previous_response_id=before)
            before = answer.id
            texts.append(answer.output_text)
            continue
        messages.append(said(text))
        answer = reply(order, messages)
        messages.append({"role": "assistant", "content": answer.content})
        texts.append(answer.content)
    return texts


def use_tools(order: SimpleNamespace) -> str:
    if order.api == "responses":
        tools, given, before = [{"type": "function", **GET_WEATHER}], order.text, None
        while True:
            answer = respond(order, given, tools=tools, previous_response_id=before)
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                return answer.output_text
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
        return json.loads(respond(order, order.text, text=text).output_text)
    form = {"type": "json_schema", "json_schema": FORMAT}
    return json.loads(reply(order, [said(order.text)], response_format=form).content)


def look(order: SimpleNamespace) -> str:
    if order.api == "responses":
        parts = [
            {"type": "input_text", "text": order.text},
            {"type": "input_image", "image_url": order.image},
        ]
        return respond(order, [{"role": "user", "content": parts}]).output_text
    parts = [{"type": "text", "text": order.text}, {"type": "image_url", "image_url": {"url": order.image}}]
    return reply(order, [{"role": "user", "content": parts}]).content


if __name__ == "__main__":
    drive(ask, talk, use_tools, fill, look)
