// The `openai` package, for Node.js.

import OpenAI from "openai";

import { GET_WEATHER, WEATHER, drive, weatherOf } from "./driving.mjs";

const FORMAT = { name: "weather", schema: WEATHER, strict: true };
const said = (text) => ({ role: "user", content: text });
const clientOf = ({ base_url, key }) => new OpenAI({ baseURL: base_url, apiKey: key, maxRetries: 0 });

async function reply(order, messages, more = {}) {
  const { model, stream } = order;
  const { completions } = clientOf(order).chat;
  if (stream) return completions.stream({ model, messages, ...more }).finalMessage();
  return (await completions.create({ model, messages, ...more })).choices[0].message;
}

async function respond(order, input, more = {}) {
  const { model, stream } = order;
  const { responses } = clientOf(order);
  if (stream) return responses.stream({ model, input, ...more }).finalResponse();
  return responses.create({ model, input, ...more });
}

async function useToolsOfResponses(order) {
  let input = order.text;
  let previous_response_id;
  for (;;) {
    const tools = [{ type: "function", strict: false, ...GET_WEATHER }];
    const answer = await respond(order, input, { tools, previous_response_id });
    const calls = answer.output.filter((item) => item.type === "function_call");
    if (!calls.length) return answer.output_text;
    previous_response_id = answer.id;
    input = calls.map((call) => ({
      type: "function_call_output",
      call_id: call.call_id,
      output: weatherOf(JSON.parse(call.arguments)),
    }));
  }
}

await drive({
  async ask(order) {
    if (order.api === "responses") return (await respond(order, order.text)).output_text;
    return (await reply(order, [said(order.text)], order.limit ? { max_tokens: order.limit } : {})).content;
  },
  async talk(order) {
    const [texts, messages] = [[], []];
    let previous_response_id;
    for (const text of order.texts) {
      if (order.api === "responses") {
        const answer = await respond(order, text, { previous_response_id });
        previous_response_id = answer.id;
        texts.push(answer.output_text);
      } else {
        messages.push(said(text));
        messages.push(await reply(order, messages));
        texts.push(messages.at(-1).content);
      }
    }
    return texts;
  },
  async use_tools(order) {
    if (order.api === "responses") return useToolsOfResponses(order);
    const messages = [said(order.text)];
    for (;;) {
      const message = await reply(order, messages, { tools: [{ type: "function", function: GET_WEATHER }] });
      if (!message.tool_calls?.length) return message.content;
      messages.push(message);
      for (const call of message.tool_calls) {
        const content = weatherOf(JSON.parse(call.function.arguments));
        messages.push({ role: "tool", tool_call_id: call.id, content });
      }
    }
  },
  async fill(order) {
    if (order.api === "responses") {
      const text = { format: { type: "json_schema", ...FORMAT } };
      return JSON.parse((await respond(order, order.text, { text })).output_text);
    }
    const response_format = { type: "json_schema", json_schema: FORMAT };
    return JSON.parse((await reply(order, [said(order.text)], { response_format })).content);
  },
  async look(order) {
    if (order.api === "responses") {
      const content = [
        { type: "input_text", text: order.text },
        { type: "input_image", image_url: order.image, detail: "auto" },
      ];
      return (await respond(order, [{ role: "user", content }])).output_text;
    }
    const content = [
      { type: "text", text: order.text },
      { type: "image_url", image_url: { url: order.image } },
    ];
    return (await reply(order, [{ role: "user", content }])).content;
  },
});
