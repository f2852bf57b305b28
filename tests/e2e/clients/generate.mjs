// Generates the clients, and a Postman collection, from the document: `node generate.mjs openapi.json generated`.

import { createClient } from "@hey-api/openapi-ts";
import converter from "openapi-to-postmanv2";
import { generate } from "orval";
import { readFileSync } from "node:fs";

const [input, output] = process.argv.slice(2);
await createClient({
  input,
  logs: { level: "silent" },
  output: { path: `${output}/hey-api`, importFileExtension: ".ts" },
  plugins: ["@hey-api/client-fetch", "@hey-api/typescript", "@hey-api/sdk"],
});
await generate({ input: { target: input }, output: { target: `${output}/orval.ts`, client: "fetch" } });
await new Promise((resolve, reject) => {
  converter.convert({ type: "string", data: readFileSync(input, "utf8") }, {}, (error, found) => {
    if (error || !found.result) reject(error ?? new Error(found.reason));
    else resolve(found.output);
  });
});
