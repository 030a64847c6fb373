// node golden.mjs FOLDER: decodes every golden message; prints one JSON object by file name.
// Each body is also encoded and decoded again, which has to change nothing.

import { deepStrictEqual } from "node:assert";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { decode, encode } from "./msgpack.mjs";

function split(bytes) {
  const frames = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    frames.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return frames;
}

const folder = process.argv[2];
const found = {};
for (const name of readdirSync(folder).filter((entry) => entry.endsWith(".bin"))) {
  const [version, kind, id, packed] = split(readFileSync(join(folder, name)));
  const body = decode(packed);
  deepStrictEqual(decode(encode(body)), body);
  found[name.slice(0, -4)] = { version: `${version}`, kind: `${kind}`, request_id: `${id}`, body };
}
console.log(JSON.stringify(found));
