// A llama model of random weights in GGUF version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), small enough to be made on the spot: 320 tokens,
// two layers of 32. What it says is noise; how many tokens it takes and gives is real.

const [VOCABULARY, WIDTH, INNER, HEADS, LAYERS] = [320, 32, 64, 4, 2] as const;
const ALIGNMENT = 32;
const TYPES = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;
const TOKEN = { normal: 1, unknown: 2, control: 3, byte: 6 } as const;

/** The file's bytes. */
export function tinyModel(): Buffer {
  const tensors = [...weights()];
  const pairs = [...metadata()];
  const counts = Buffer.alloc(24);
  counts.write("GGUF", 0, "latin1");
  counts.writeUInt32LE(3, 4);
  counts.writeBigUInt64LE(BigInt(tensors.length), 8);
  counts.writeBigUInt64LE(BigInt(pairs.length), 16);
  let offset = 0;
  const infos = tensors.map(([name, shape]) => {
    const dimensions = shape.map((size) => uint64(size));
    const info = [text(name), uint32(shape.length), ...dimensions, uint32(0), uint64(offset)];
    offset += padded(size(shape));
    return Buffer.concat(info);
  });
  const head = Buffer.concat([counts, ...pairs, ...infos]);
  const data = tensors.map(([, shape, value]) => fill(shape, value));
  return Buffer.concat([head, Buffer.alloc(padded(head.length) - head.length), ...data]);
}

type Tensor = readonly [name: string, shape: readonly number[], value: (() => number) | number];

function* weights(): Generator<Tensor> {
  let state = 1;
  const random = (): number => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647 / 5 - 0.1;
  };
  yield ["token_embd.weight", [WIDTH, VOCABULARY], random];
  yield ["output_norm.weight", [WIDTH], 1];
  yield ["output.weight", [WIDTH, VOCABULARY], random];
  for (let layer = 0; layer < LAYERS; layer++) {
    const name = (part: string): string => `blk.${layer}.${part}.weight`;
    for (const norm of ["attn_norm", "ffn_norm"]) yield [name(norm), [WIDTH], 1];
    for (const part of ["attn_q", "attn_k", "attn_v", "attn_output"])
      yield [name(part), [WIDTH, WIDTH], random];
    for (const part of ["ffn_gate", "ffn_up"]) yield [name(part), [WIDTH, INNER], random];
    yield [name("ffn_down"), [INNER, WIDTH], random];
  }
}

function* metadata(): Generator<Buffer> {
  const pair = (key: string, type: number, value: Buffer): Buffer =>
    Buffer.concat([text(key), uint32(type), value]);
  const number = (key: string, value: number): Buffer => pair(key, TYPES.uint32, uint32(value));
  const list = (key: string, type: number, values: readonly Buffer[]): Buffer =>
    pair(key, TYPES.array, Buffer.concat([uint32(type), uint64(values.length), ...values]));
  yield pair("general.architecture", TYPES.string, text("llama"));
  yield number("llama.context_length", 2048);
  yield number("llama.embedding_length", WIDTH);
  yield number("llama.block_count", LAYERS);
  yield number("llama.feed_forward_length", INNER);
  yield number("llama.attention.head_count", HEADS);
  yield number("llama.rope.dimension_count", WIDTH / HEADS);
  yield pair("llama.attention.layer_norm_rms_epsilon", TYPES.float32, float32(1e-5));
  yield pair("tokenizer.ggml.model", TYPES.string, text("llama"));
  const tokens = vocabulary();
  yield list(
    "tokenizer.ggml.tokens",
    TYPES.string,
    tokens.map(([token]) => text(token)),
  );
  yield list(
    "tokenizer.ggml.scores",
    TYPES.float32,
    tokens.map(() => float32(0)),
  );
  yield list(
    "tokenizer.ggml.token_type",
    TYPES.int32,
    tokens.map(([, type]) => uint32(type)),
  );
  yield number("tokenizer.ggml.unknown_token_id", 0);
  yield number("tokenizer.ggml.bos_token_id", 1);
  yield number("tokenizer.ggml.eos_token_id", 2);
}

function vocabulary(): (readonly [string, number])[] {
  const bytes = Array.from({ length: 256 }, (_, byte) => {
    const hex = byte.toString(16).toUpperCase().padStart(2, "0");
    return [`<0x${hex}>`, TOKEN.byte] as const;
  });
  const tokens = [
    ["<unk>", TOKEN.unknown],
    ["<s>", TOKEN.control],
    ["</s>", TOKEN.control],
    ...bytes,
  ] as const;
  const words = Array.from(
    { length: VOCABULARY - tokens.length },
    (_, index) => [`w${index}`, TOKEN.normal] as const,
  );
  return [...tokens, ...words];
}

const size = (shape: readonly number[]): number => 4 * shape.reduce((product, each) => product * each, 1);
const padded = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

function fill(shape: readonly number[], value: Tensor[2]): Buffer {
  const bytes = Buffer.alloc(padded(size(shape)));
  for (let at = 0; at < size(shape); at += 4)
    bytes.writeFloatLE(typeof value === "number" ? value : value(), at);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function float32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
}
