// node examples/node/chat.mjs MODEL "QUESTION" [SESSION]: streams an answer.

import { Client } from "./hotseat.mjs";

const [model, question, session] = process.argv.slice(2);
if (!question) {
  console.error('usage: node chat.mjs MODEL "QUESTION" [SESSION]');
  process.exit(64);
}
const turn = [{ role: "user", content: question }];
const input = session ? { session, append: turn } : { messages: turn };
try {
  const client = await Client.connect();
  for await (const { kind, body } of client.stream("generate", { model, max_tokens: 64, ...input })) {
    if (kind === "progress") process.stderr.write(`${body.phase}\n`);
    if (kind === "chunk") for (const part of body.parts ?? []) process.stdout.write(part.text ?? "");
    if (kind === "done") {
      process.stdout.write("\n");
      console.error(JSON.stringify({ finish_reason: body.finish_reason, tokens: body.tokens, usage: body.usage }));
    }
  }
  client.close();
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
