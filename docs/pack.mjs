// A pack of readings out of its envelope, without anything of meterhub's: docs/pack.md says what each byte is.
// node docs/pack.mjs hub-public-key.pem < envelope     prints one reading a line as JSON
import { createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { inflateRawSync } from "node:zlib";

// CBOR (RFC 8949), as much of it as there is here: whole numbers, bytes, text, lists, maps, one tag.
export function cbor(bytes) {
  let at = 0;
  const take = (count) => {
    if (at + count > bytes.length) throw new Error("cut short");
    return bytes.subarray(at, (at += count));
  };
  function head(low) {
    if (low < 24) return low;
    if (low > 27) throw new Error(`length form ${low} is not used`);
    const value = take(1 << (low - 24)).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
  }
  function item() {
    const first = take(1)[0];
    const value = head(first & 31);
    switch (first >> 5) {
      case 0: return value;
      case 1: return typeof value === "bigint" ? -1n - value : -1 - value;
      case 2: return take(value);
      case 3: return take(value).toString("utf8");
      case 4: return Array.from({ length: value }, item);
      case 5: return new Map(Array.from({ length: value }, () => [item(), item()]));
      case 6: return item();
      default: throw new Error(`byte ${first} is not used`);
    }
  }
  const found = item();
  if (at !== bytes.length) throw new Error("more behind it");
  return found;
}

const byteString = (body) => {
  const n = body.length;
  const head = n < 24 ? [0x40 | n] : n < 256 ? [0x58, n] : n < 65536 ? [0x59, n >> 8, n & 255]
    : [0x5a, n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255];
  return Buffer.concat([Buffer.from(head), body]);
};

export function readings(envelope, publicKeyPem) {
  const [head, , payload, signature] = cbor(envelope);
  const header = cbor(head);
  const parts = [Buffer.from("Signature1"), head, Buffer.alloc(0), payload];
  const signed = Buffer.concat([Buffer.of(0x84, 0x6a), parts[0], ...parts.slice(1).map(byteString)]);
  const key = createPublicKey(publicKeyPem);
  const digest = key.asymmetricKeyType === "ec" ? "sha256" : null;  // the key says which, never the message
  if (!verify(digest, signed, { key, dsaEncoding: "ieee-p1363" }, signature)) throw new Error("not signed by this hub");
  const pack = cbor(header.get(-65538) === "deflate" ? inflateRawSync(payload) : payload);
  const [hub, epoch, lane, number] = header.get(-65537);
  return pack.get(2).flatMap(([client, quantity, exponent, times, values, flags = 0]) => {
    let t = BigInt(pack.get(1)), v = 0n;
    return times.map((step, i) => ({ hub, epoch, lane, number, client, quantity, exponent, flags,
      t_ms: (t += BigInt(step)).toString(), value: (v += BigInt(values[i])).toString() }));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const found = readings(readFileSync(0), readFileSync(process.argv[2], "utf8"));
  for (const reading of found) console.log(JSON.stringify(reading));
}
