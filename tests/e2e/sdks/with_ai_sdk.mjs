// Vercel's AI SDK with the provider that PROVIDER names: `@ai-sdk/openai` or `@ai-sdk/openai-compatible`.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

import { GET_WEATHER, WEATHER, drive, weatherOf } from "./driving.mjs";

const isCompatible = process.env.PROVIDER === "@ai-sdk/openai-compatible";
const tools = {
  get_weather: tool({
    description: GET_WEATHER.description,
    inputSchema: jsonSchema(GET_WEATHER.parameters),
    execute: weatherOf,
  }),
};

function modelOf({ base_url: baseURL, key: apiKey, model, api }) {
  if (isCompatible) {
    const how = { name: "chat-api", supportsStructuredOutputs: true };
    return createOpenAICompatible({ baseURL, apiKey, ...how }).chatModel(model);
  }
  const openai = createOpenAI({ baseURL, apiKey });
  return api === "responses" ? openai.responses(model) : openai.chat(model);
}

/** The text, all messages and the output of a call, streamed or not. */
async function reply(order, messages, more = {}) {
  const given = { model: modelOf(order), messages, maxRetries: 0, ...more };
  if (!order.stream) {
    const whole = await generateText(given);
    return { text: whole.text, said: whole.response.messages, output: more.output && whole.output };
  }
  let failure;
  const streamed = streamText({ ...given, onError: ({ error }) => (failure = error) });
  try {
    await streamed.consumeStream();
    if (failure) throw failure;
    const { messages: said } = await streamed.response;
    return { text: await streamed.text, said, output: more.output && (await streamed.output) };
  } catch (error) {
    throw failure ?? error;
  }
}

const said = (content) => ({ role: "user", content });

await drive({
  async ask(order) {
    const maxOutputTokens = order.limit ?? undefined;
    return (await reply(order, [said(order.text)], { maxOutputTokens })).text;
  },
  async talk(order) {
    const [texts, messages] = [[], []];
    for (const text of order.texts) {
      messages.push(said(text));
      const answer = await reply(order, messages);
      messages.push(...answer.said);
      texts.push(answer.text);
    }
    return texts;
  },
  async use_tools(order) {
    return (await reply(order, [said(order.text)], { tools, stopWhen: stepCountIs(5) })).text;
  },
  async fill(order) {
    const output = Output.object({ schema: jsonSchema(WEATHER), name: "weather" });
    return (await reply(order, [said(order.text)], { output })).output;
  },
  async look(order) {
    const parts = [
      { type: "text", text: order.text },
      { type: "image", image: order.image },
    ];
    return (await reply(order, [said(parts)])).text;
  },
});
