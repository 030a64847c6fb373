// MessagePack by hand: the JSON-safe part that hotseat speaks (no binary, no extension types).

const text = new TextDecoder("utf-8", { fatal: true });

export function encode(value) {
  const parts = [];
  write(value, parts);
  return Buffer.concat(parts);
}

function head(first, bytes, write) {
  const out = Buffer.alloc(1 + bytes);
  out[0] = first;
  write(out);
  return out;
}

// A length: inside the first byte if it is small, else in 1, 2 or 4 bytes behind `codes`.
function size(length, small, most, codes, parts) {
  if (length < most) return parts.push(Buffer.from([small | length]));
  if (codes[0] !== null && length < 0x100) return parts.push(Buffer.from([codes[0], length]));
  if (length < 0x10000) return parts.push(head(codes[1], 2, (out) => out.writeUInt16BE(length, 1)));
  return parts.push(head(codes[2], 4, (out) => out.writeUInt32BE(length, 1)));
}

function write(value, parts) {
  if (value === null || value === undefined) parts.push(Buffer.from([0xc0]));
  else if (typeof value === "boolean") parts.push(Buffer.from([value ? 0xc3 : 0xc2]));
  else if (typeof value === "number") writeNumber(value, parts);
  else if (typeof value === "string") {
    const bytes = Buffer.from(value, "utf-8");
    size(bytes.length, 0xa0, 32, [0xd9, 0xda, 0xdb], parts);
    parts.push(bytes);
  } else if (Array.isArray(value)) {
    size(value.length, 0x90, 16, [null, 0xdc, 0xdd], parts);
    for (const item of value) write(item, parts);
  } else {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    size(entries.length, 0x80, 16, [null, 0xde, 0xdf], parts);
    for (const [key, item] of entries) {
      write(key, parts);
      write(item, parts);
    }
  }
}

function writeNumber(value, parts) {
  if (!Number.isInteger(value)) {
    parts.push(head(0xcb, 8, (out) => out.writeDoubleBE(value, 1)));
  } else if (!Number.isSafeInteger(value)) {
    throw new RangeError(`${value} is beyond 2^53-1`);
  } else if (value >= 0 && value < 0x80) {
    parts.push(Buffer.from([value]));
  } else if (value < 0 && value >= -32) {
    parts.push(Buffer.from([value & 0xff]));
  } else if (value >= 0 && value < 0x100000000) {
    parts.push(head(0xce, 4, (out) => out.writeUInt32BE(value, 1)));
  } else {
    parts.push(head(0xd3, 8, (out) => out.writeBigInt64BE(BigInt(value), 1)));
  }
}

export function decode(bytes) {
  const reader = { bytes, at: 0 };
  const value = read(reader);
  if (reader.at !== bytes.length) throw new Error("bytes behind the value");
  return value;
}

function take(reader, count) {
  const start = reader.at;
  reader.at += count;
  if (reader.at > reader.bytes.length) throw new Error("value is cut off");
  return reader.bytes.subarray(start, reader.at);
}

function unsigned(reader, count) {
  return count === 8 ? Number(take(reader, 8).readBigUInt64BE()) : take(reader, count).readUIntBE(0, count);
}

function signed(reader, count) {
  return count === 8 ? Number(take(reader, 8).readBigInt64BE()) : take(reader, count).readIntBE(0, count);
}

function string(reader, length) {
  return text.decode(take(reader, length));
}

function array(reader, length) {
  return Array.from({ length }, () => read(reader));
}

function map(reader, length) {
  const found = {};
  for (let n = 0; n < length; n++) {
    const key = read(reader);
    found[key] = read(reader);
  }
  return found;
}

function read(reader) {
  const first = take(reader, 1)[0];
  if (first < 0x80) return first;
  if (first < 0x90) return map(reader, first & 0x0f);
  if (first < 0xa0) return array(reader, first & 0x0f);
  if (first < 0xc0) return string(reader, first & 0x1f);
  if (first >= 0xe0) return first - 0x100;
  switch (first) {
    case 0xc0: return null;
    case 0xc2: return false;
    case 0xc3: return true;
    case 0xca: return take(reader, 4).readFloatBE();
    case 0xcb: return take(reader, 8).readDoubleBE();
    case 0xcc: case 0xcd: case 0xce: case 0xcf: return unsigned(reader, 1 << (first - 0xcc));
    case 0xd0: case 0xd1: case 0xd2: case 0xd3: return signed(reader, 1 << (first - 0xd0));
    case 0xd9: case 0xda: case 0xdb: return string(reader, unsigned(reader, 1 << (first - 0xd9)));
    case 0xdc: case 0xdd: return array(reader, unsigned(reader, 2 << (first - 0xdc)));
    case 0xde: case 0xdf: return map(reader, unsigned(reader, 2 << (first - 0xde)));
    default: throw new Error(`type byte 0x${first.toString(16)} is not part of the protocol`);
  }
}
