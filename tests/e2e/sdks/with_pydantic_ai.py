"""`pydantic-ai`."""

import base64
from types import SimpleNamespace
from typing import Any

from driving import WEATHER, drive, weather_of
from openai import AsyncOpenAI
from pydantic_ai import Agent, BinaryContent, NativeOutput, StructuredDict
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return weather_of(city)


def agent_of(order: SimpleNamespace, **more: Any) -> Agent[None, Any]:
    """An agent with the model of an order."""
    kind = OpenAIResponsesModel if order.api == "responses" else OpenAIChatModel
    client = AsyncOpenAI(base_url=order.base_url, api_key=order.key, max_retries=0)
    return Agent(kind(order.model, provider=OpenAIProvider(openai_client=client)), **more)


def run(order: SimpleNamespace, agent: Agent[None, Any], prompt: Any, **more: Any) -> Any:
    """What an agent makes of a prompt: its output and all messages."""
    if not order.stream:
        result = agent.run_sync(prompt, **more)
        return result.output, result.all_messages()
    streamed = agent.run_stream_sync(prompt, **more)
    return streamed.get_output(), streamed.all_messages()


def ask(order: SimpleNamespace) -> str:
    settings: Any = {} if order.limit is None else {"max_tokens": order.limit}
    return run(order, agent_of(order), order.text, model_settings=settings)[0]


def talk(order: SimpleNamespace) -> list[str]:
    texts, history = [], None
    for text in order.texts:
        output, history = run(order, agent_of(order), text, message_history=history)
        texts.append(output)
    return texts


def use_tools(order: SimpleNamespace) -> str:
    return run(order, agent_of(order, tools=[get_weather]), order.text)[0]


def fill(order: SimpleNamespace) -> Any:
    output = NativeOutput(StructuredDict(WEATHER, name="weather"))
    return run(order, agent_of(order, output_type=output), order.text)[0]


def look(order: SimpleNamespace) -> str:
    head, _, data = order.image.partition(",")
    kind = head.removeprefix("data:").removesuffix(";base64")
    return run(order, agent_of(order), [order.text, BinaryContent(base64.b64decode(data), media_type=kind)])[
        0
    ]


if __name__ == "__main__":
    drive(ask, talk, use_tools, fill, look)
