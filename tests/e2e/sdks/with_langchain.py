"""LangChain's `ChatOpenAI`, for Python."""

from types import SimpleNamespace
from typing import Any

from driving import WEATHER, drive, weather_of
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return weather_of(city)


def model_of(order: SimpleNamespace, **more: Any) -> ChatOpenAI:
    """The model of an order."""
    return ChatOpenAI(
        model=order.model,
        base_url=order.base_url,
        api_key=order.key,
        max_retries=0,
        streaming=order.stream,
        use_responses_api=order.api == "responses",
        **more,
    )


def reply(order: SimpleNamespace, messages: list[BaseMessage], **more: Any) -> AIMessage:
    """A message of the model, streamed or not."""
    model = model_of(order, **more)
    if not order.stream:
        return model.invoke(messages)
    whole: Any = None
    for chunk in model.stream(messages):
        whole = chunk if whole is None else whole + chunk
    return whole


def ask(order: SimpleNamespace) -> str:
    return reply(order, [HumanMessage(order.text)], max_tokens=order.limit).text


def talk(order: SimpleNamespace) -> list[str]:
    messages: list[BaseMessage] = []
    more = {"use_previous_response_id": True} if order.api == "responses" else {}
    for text in order.texts:
        messages.append(HumanMessage(text))
        messages.append(reply(order, messages, **more))
    return [message.text for message in messages[1::2]]


def use_tools(order: SimpleNamespace) -> str:
    agent = create_agent(model_of(order), tools=[get_weather])
    given: Any = {"messages": [HumanMessage(order.text)]}
    if not order.stream:
        return agent.invoke(given)["messages"][-1].text
    *_, last = agent.stream(given, stream_mode="values")
    return last["messages"][-1].text


def fill(order: SimpleNamespace) -> Any:
    model = model_of(order).with_structured_output(WEATHER, method="json_schema")
    return model.invoke([HumanMessage(order.text)])


def look(order: SimpleNamespace) -> str:
    parts: list[Any] = [
        {"type": "text", "text": order.text},
        {"type": "image_url", "image_url": {"url": order.image}},
    ]
    return reply(order, [HumanMessage(parts)]).text


if __name__ == "__main__":
    drive(ask, talk, use_tools, fill, look)
