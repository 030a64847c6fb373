// A client of hotseat without dependencies: hello, pings, requests, streams.

import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { decode, encode } from "./msgpack.mjs";
import { Dealer } from "./zmtp.mjs";

const WELCOME_MS = 2000;
const PING_MS = 1000;
const ENDS = new Set(["done", "error", "reply", "swapped", "welcome"]);

export function endpoint() {
  if (process.env.HOTSEAT_ENDPOINT) return process.env.HOTSEAT_ENDPOINT;
  const home = process.env.HOTSEAT_HOME || join(homedir(), ".hotseat");
  return JSON.parse(readFileSync(join(home, "run", "endpoint.json"), "utf-8")).requests;
}

export class Refused extends Error {
  constructor(body) {
    super(`${body.code}: ${body.message}`);
    this.code = body.code;
    this.facts = body.facts;
  }
}

export class Client {
  static async connect(address = endpoint()) {
    const client = new Client(address);
    const timer = setTimeout(() => client.fail(new Error("no daemon answers; start one: hotseat serve")), WELCOME_MS);
    client.welcome = await client.call("hello", { protocol: 1, client: { name: "node", pid: process.pid } });
    clearTimeout(timer);
    client.pings = setInterval(() => client.send("ping", "ping", {}), PING_MS);
    return client;
  }

  constructor(address) {
    this.number = 0;
    this.open = new Map();
    const path = address.replace(/^ipc:\/\//, "");
    this.dealer = new Dealer(path, (frames) => this.receive(frames), (error) => this.fail(error ?? new Error("connection lost")));
  }

  send(kind, id, body) {
    this.dealer.send([Buffer.from("1"), Buffer.from(kind), Buffer.from(id), encode(body)]);
  }

  receive([, kind, id, body]) {
    this.open.get(id.toString())?.({ kind: kind.toString(), body: decode(body) });
  }

  fail(error) {
    for (const take of [...this.open.values()]) take({ kind: "lost", error });
    this.close();
  }

  close() {
    clearInterval(this.pings);
    this.dealer.close();
  }

  // Everything the daemon says to one request, the end included; throws for errors.
  async *stream(kind, body) {
    const id = `node-${process.pid}-${++this.number}`;
    const inbox = [];
    let wake = () => {};
    this.open.set(id, (item) => { inbox.push(item); wake(); });
    try {
      this.send(kind, id, body);
      for (;;) {
        while (inbox.length === 0) await new Promise((resolve) => { wake = resolve; });
        const item = inbox.shift();
        if (item.kind === "lost") throw item.error;
        if (item.kind === "error") throw new Refused(item.body);
        // What was read may be sent again: six bytes a token, and the text.
        if (item.kind === "chunk") this.send("credit", id, { grant_bytes: cost(item.body) });
        yield item;
        if (ENDS.has(item.kind)) return;
      }
    } finally {
      this.open.delete(id);
    }
  }

  // A request with one answer.
  async call(kind, body = {}) {
    let last;
    for await (const item of this.stream(kind, body)) last = item;
    return last.kind === "reply" ? last.body.result : last.body;
  }
}

function cost(chunk) {
  const text = (chunk.parts ?? []).map((part) => (part.text ?? "") + (part.arguments_delta ?? "")).join("");
  return Math.max(1, 6 * (chunk.tokens ?? []).length + Buffer.byteLength(text));
}
