// A ZeroMQ DEALER over a unix socket: ZMTP 3.0 with the NULL mechanism, nothing else.

import { createConnection } from "node:net";

const MORE = 1;
const LONG = 2;
const COMMAND = 4;

function greeting() {
  const bytes = Buffer.alloc(64);
  bytes[0] = 0xff;
  bytes[9] = 0x7f;
  bytes[10] = 3; // version 3.0
  bytes.write("NULL", 12, "ascii");
  return bytes;
}

function property(name, value) {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(value.length);
  return Buffer.concat([Buffer.from([name.length]), Buffer.from(name), length, Buffer.from(value)]);
}

function frame(flags, body) {
  if (body.length < 256) return Buffer.concat([Buffer.from([flags, body.length]), body]);
  const head = Buffer.alloc(9);
  head[0] = flags | LONG;
  head.writeBigUInt64BE(BigInt(body.length), 1);
  return Buffer.concat([head, body]);
}

export class Dealer {
  // `onMessage(frames)` gets whole messages; `onEnd(error)` is called once.
  constructor(path, onMessage, onEnd) {
    this.frames = [];
    this.pending = Buffer.alloc(0);
    this.greeted = false;
    this.waiting = []; // until the daemon's READY: a message before it ends the connection
    this.onMessage = onMessage;
    this.socket = createConnection(path);
    this.socket.on("data", (bytes) => this.take(bytes));
    this.socket.on("error", (error) => { this.error = error; });
    this.socket.on("close", () => onEnd(this.error));
    this.socket.write(greeting());
    const ready = [Buffer.from([5]), Buffer.from("READY"), property("Socket-Type", "DEALER"), property("Identity", "")];
    this.socket.write(frame(COMMAND, Buffer.concat(ready)));
  }

  send(frames) {
    const last = frames.length - 1;
    const bytes = Buffer.concat(frames.map((body, n) => frame(n < last ? MORE : 0, body)));
    if (this.waiting) this.waiting.push(bytes);
    else this.socket.write(bytes);
  }

  close() {
    this.socket.end();
  }

  take(bytes) {
    this.pending = Buffer.concat([this.pending, bytes]);
    if (!this.greeted) {
      if (this.pending.length < 64) return;
      this.pending = this.pending.subarray(64);
      this.greeted = true;
    }
    for (let next = this.nextFrame(); next !== null; next = this.nextFrame()) {
      const [flags, body] = next;
      if (flags & COMMAND) {
        // READY of the daemon; it sends no other command.
        const waiting = this.waiting ?? [];
        this.waiting = null;
        for (const one of waiting) this.socket.write(one);
        continue;
      }
      this.frames.push(body);
      if (!(flags & MORE)) this.onMessage(this.frames.splice(0));
    }
  }

  nextFrame() {
    const head = this.pending;
    if (head.length < 2) return null;
    const isLong = head[0] & LONG;
    if (isLong && head.length < 9) return null;
    const start = isLong ? 9 : 2;
    const end = start + (isLong ? Number(head.readBigUInt64BE(1)) : head[1]);
    if (head.length < end) return null;
    this.pending = head.subarray(end);
    return [head[0], Buffer.from(head.subarray(start, end))];
  }
}
