// Carries out orders for a client: each comes as a line of JSON on stdin, and is answered by one on stdout.
// What orders and answers are, driving.py says.

import { createInterface } from "node:readline";

export const WEATHER = {
  title: "Weather",
  type: "object",
  properties: { city: { enum: ["Lisbon", "Porto"] }, degrees: { enum: [27, 28] } },
  required: ["city", "degrees"],
  additionalProperties: false,
};
export const GET_WEATHER = {
  name: "get_weather",
  description: "Get the weather of a city.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
export const weatherOf = ({ city }) => `${city}: 28 degrees`;

function classesOf(error) {
  const names = [];
  for (let kind = error.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) names.push(kind.name);
  return names;
}

/** Carries out what is ordered, with the function of that name, until stdin ends. */
export async function drive(actions) {
  for await (const line of createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    let answer;
    try {
      answer = { got: await actions[order.do](order) };
    } catch (error) {
      answer = {
        raised: [error.name, ...classesOf(error)],
        status: error.status ?? error.statusCode ?? null,
        code: error.code ?? error.data?.error?.code ?? null,
        message: String(error),
      };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}
