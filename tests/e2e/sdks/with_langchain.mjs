// LangChain's `ChatOpenAI`, for Node.js.

import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";

import { GET_WEATHER, WEATHER, drive, weatherOf } from "./driving.mjs";

function modelOf({ base_url: baseURL, key: apiKey, model, api, limit }) {
  const useResponsesApi = api === "responses";
  const maxTokens = limit ?? undefined;
  return new ChatOpenAI({
    model,
    apiKey,
    maxRetries: 0,
    maxTokens,
    useResponsesApi,
    configuration: { baseURL },
  });
}

async function reply({ stream }, model, messages) {
  if (!stream) return model.invoke(messages);
  let whole;
  for await (const chunk of await model.stream(messages)) whole = whole ? whole.concat(chunk) : chunk;
  return whole;
}

await drive({
  async ask(order) {
    return (await reply(order, modelOf(order), [new HumanMessage(order.text)])).text;
  },
  async talk(order) {
    const [texts, messages] = [[], []];
    for (const text of order.texts) {
      messages.push(new HumanMessage(text));
      messages.push(await reply(order, modelOf(order), messages));
      texts.push(messages.at(-1).text);
    }
    return texts;
  },
  async use_tools(order) {
    const messages = [new HumanMessage(order.text)];
    for (;;) {
      const model = modelOf(order).bindTools([{ type: "function", function: GET_WEATHER }]);
      const message = await reply(order, model, messages);
      if (!message.tool_calls?.length) return message.text;
      messages.push(message);
      for (const { id, args } of message.tool_calls) {
        messages.push(new ToolMessage({ tool_call_id: id, content: weatherOf(args) }));
      }
    }
  },
  async fill(order) {
    const model = modelOf(order).withStructuredOutput(WEATHER, { name: "weather", method: "jsonSchema" });
    return model.invoke([new HumanMessage(order.text)]);
  },
  async look(order) {
    const content = [
      { type: "text", text: order.text },
      { type: "image_url", image_url: { url: order.image } },
    ];
    return (await reply(order, modelOf(order), [new HumanMessage({ content })])).text;
  },
});
