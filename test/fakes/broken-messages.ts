// Protobuf messages that went wrong, for fast-check: bytes written over, cut or moved, as on a broken wire, and messages
// whose lengths are all right but whose values are not: counts up to 2^64, infinite and negative doubles, texts instead of
// messages, fields that are missing, doubled or of another number.
import fc from "fast-check";

/** One field: a number, and a varint, eight or four bytes, a text, or fields of its own. */
interface Field {
  number: number;
  value: bigint | Buffer | Field[];
  type: number;
}

/** Mutations of `seeds`, and any bytes. */
export function brokenMessages(...seeds: readonly Buffer[]): fc.Arbitrary<Buffer> {
  const seed = fc.constantFrom(...seeds);
  const cut = fc
    .tuple(seed, fc.array(change, { minLength: 1, maxLength: 5 }))
    .map(([bytes, changes]) => changes.reduce(changed, bytes));
  const bent = fc
    .tuple(seed, fc.array(bend, { minLength: 1, maxLength: 4 }))
    .map(([bytes, bends]) => bytesOf(bends.reduce(bentFields, fieldsOf(bytes) ?? [])));
  const any = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
  return fc.oneof(
    { weight: 5, arbitrary: bent },
    { weight: 4, arbitrary: cut },
    { weight: 1, arbitrary: any },
  );
}

const place = fc.nat(5000);
const change = fc.oneof(
  fc.record({ kind: fc.constant("set" as const), at: place, byte: fc.nat(255) }),
  fc.record({ kind: fc.constant("cut" as const), at: place, length: fc.nat(40) }),
  fc.record({ kind: fc.constant("end" as const), at: place }),
  fc.record({ kind: fc.constant("put" as const), at: place, bytes: fc.uint8Array({ maxLength: 20 }) }),
  fc.record({ kind: fc.constant("copy" as const), at: place, from: place, length: fc.nat(60) }),
  fc.record({ kind: fc.constant("huge" as const), at: place, ends: fc.integer({ min: 1, max: 10 }) }),
);

function changed(bytes: Buffer, one: typeof change extends fc.Arbitrary<infer One> ? One : never): Buffer {
  const at = one.at % (bytes.length + 1);
  const splice = (cut: number, put: Uint8Array): Buffer =>
    Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + cut)]);
  switch (one.kind) {
    case "set":
      return splice(1, Uint8Array.of(one.byte));
    case "cut":
      return splice(one.length, Uint8Array.of());
    case "end":
      return bytes.subarray(0, at);
    case "put":
      return splice(0, one.bytes);
    case "copy":
      return splice(0, bytes.subarray(one.from % (bytes.length + 1)).subarray(0, one.length));
    case "huge":
      return splice(1, Uint8Array.of(...Array<number>(one.ends - 1).fill(0xff), 0x7f));
  }
}

const odd = fc.constantFrom(
  0,
  -0,
  -1,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  1e308,
  2 ** 60,
);
const large = fc.constantFrom(0n, 1n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n);
const bend = fc.oneof(
  fc.record({
    kind: fc.constant("count" as const),
    at: place,
    value: fc.oneof(large, fc.bigInt(0n, 2n ** 64n - 1n)),
  }),
  fc.record({ kind: fc.constant("double" as const), at: place, value: fc.oneof(odd, fc.double()) }),
  fc.record({
    kind: fc.constant("text" as const),
    at: place,
    value: fc.oneof(fc.string(), fc.constant("x".repeat(5000))),
  }),
  fc.record({ kind: fc.constant("drop" as const), at: place }),
  fc.record({ kind: fc.constant("twice" as const), at: place }),
  fc.record({ kind: fc.constant("number" as const), at: place, value: fc.integer({ min: 1, max: 30 }) }),
);

function bentFields(
  fields: Field[],
  one: typeof bend extends fc.Arbitrary<infer One> ? One : never,
): Field[] {
  const all: { readonly list: Field[]; readonly field: Field }[] = [];
  const collect = (list: Field[]): void => {
    for (const field of list) {
      all.push({ list, field });
      if (Array.isArray(field.value)) collect(field.value);
    }
  };
  collect(fields);
  if (all.length === 0) return fields;
  const fits = all.filter(({ field }) =>
    one.kind === "count" ? field.type === 0 : one.kind === "double" ? field.type === 1 : true,
  );
  const { list, field } = (fits.length > 0 ? fits : all)[
    one.at % (fits.length || all.length)
  ] as (typeof all)[0];
  switch (one.kind) {
    case "count":
      Object.assign(field, { type: 0, value: one.value });
      break;
    case "double": {
      const bytes = Buffer.alloc(8);
      bytes.writeDoubleLE(one.value);
      Object.assign(field, { type: 1, value: bytes });
      break;
    }
    case "text":
      Object.assign(field, { type: 2, value: Buffer.from(one.value) });
      break;
    case "drop":
      list.splice(list.indexOf(field), 1);
      break;
    case "twice":
      list.push(structuredCloneOf(field));
      break;
    case "number":
      field.number = one.value;
  }
  return fields;
}

const structuredCloneOf = ({ number, type, value }: Field): Field => ({
  number,
  type,
  value: Array.isArray(value) ? value.map(structuredCloneOf) : value,
});

/** The fields of a message, and of those in it that read as messages; undefined where the bytes are none. */
function fieldsOf(bytes: Buffer): Field[] | undefined {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): bigint | undefined => {
    let value = 0n;
    for (let shift = 0n; at < bytes.length && shift < 70n; shift += 7n) {
      const byte = bytes[at++] as number;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return undefined;
  };
  while (at < bytes.length) {
    const tag = Number(varint() ?? 0n);
    const [number, type] = [Math.floor(tag / 8), tag % 8];
    const length = type === 1 ? 8 : type === 5 ? 4 : type === 2 ? Number(varint() ?? -1n) : 0;
    if (number < 1 || length < 0 || at + length > bytes.length || ![0, 1, 2, 5].includes(type))
      return undefined;
    const content = bytes.subarray(at, at + length);
    at += length;
    const value = type === 0 ? varint() : type === 2 && length > 1 ? (fieldsOf(content) ?? content) : content;
    if (value === undefined) return undefined;
    fields.push({ number, type, value });
  }
  return fields;
}

function bytesOf(fields: readonly Field[]): Buffer {
  const varint = (value: bigint): Buffer => {
    const all: number[] = [];
    let rest = value;
    for (; rest > 127n; rest >>= 7n) all.push(Number(rest & 127n) | 128);
    return Buffer.from([...all, Number(rest)]);
  };
  return Buffer.concat(
    fields.flatMap(({ number, type, value }) => {
      const tag = varint(BigInt(number * 8 + type));
      if (typeof value === "bigint") return [tag, varint(value)];
      const bytes = Array.isArray(value) ? bytesOf(value) : value;
      return type === 2 ? [tag, varint(BigInt(bytes.length)), bytes] : [tag, bytes];
    }),
  );
}
