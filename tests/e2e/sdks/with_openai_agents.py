"""`openai-agents`, OpenAI's SDK for agents."""

import asyncio
from types import SimpleNamespace
from typing import Any, Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from driving import drive, weather_of
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)


class Weather(BaseModel):
    city: Literal["Lisbon", "Porto"]
    degrees: Literal[27, 28]


@function_tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return weather_of(city)


def agent_of(order: SimpleNamespace, **more: Any) -> Agent[None]:
    """An agent with the model of an order."""
    kind = OpenAIResponsesModel if order.api == "responses" else OpenAIChatCompletionsModel
    client = AsyncOpenAI(base_url=order.base_url, api_key=order.key, max_retries=0)
    return Agent(name="Weatherman", model=kind(order.model, client), **more)


def run(order: SimpleNamespace, agent: Agent[None], given: Any, **more: Any) -> Any:
    """What an agent makes of its input."""

    async def whole() -> Any:
        if not order.stream:
            return await Runner.run(agent, given, **more)
        result = Runner.run_streamed(agent, given, **more)
        async for _ in result.stream_events():
            pass
        return result

    return asyncio.run(whole())


def ask(order: SimpleNamespace) -> str:
    return run(
        order, agent_of(order, model_settings=ModelSettings(max_tokens=order.limit)), order.text
    ).final_output


def talk(order: SimpleNamespace) -> list[str]:
    texts: list[str] = []
    given: list[Any] = []
    before = None
    for text in order.texts:
        if order.api == "responses":
            result = run(order, agent_of(order), text, previous_response_id=before)
            before = result.last_response_id
        else:
            given.append({"role": "user", "content": text})
            result = run(order, agent_of(order), given)
            given = result.to_input_list()
        texts.append(result.final_output)
    return texts


def use_tools(order: SimpleNamespace) -> str:
    return run(order, agent_of(order, tools=[get_weather]), order.text).final_output


def fill(order: SimpleNamespace) -> Any:
    return run(order, agent_of(order, output_type=Weather), order.text).final_output.model_dump()


def look(order: SimpleNamespace) -> str:
    parts = [
        {"type": "input_text", "text": order.text},
        {"type": "input_image", "image_url": order.image, "detail": "auto"},
    ]
    return run(order, agent_of(order), [{"role": "user", "content": parts}]).final_output


if __name__ == "__main__":
    drive(ask, talk, use_tools, fill, look)
