// StreamAccessLogsMessage as bytes: the HTTP entries' dynamic metadata, status, headers, route and upstream.
// Facts: envoy/service/accesslog/v3/als.proto and envoy/data/accesslog/v3/accesslog.proto, seen from Envoy 1.40:
// http_logs 2 {log_entry 1 {common 1, request 3, response 4}}; common: upstream address 13, response flags 16, metadata 17,
// route_name 19, duration 23, intermediate 26, access_log_type 33; Metadata.filter_metadata 1 is a map of Struct. Nesting is
// read two levels deep. Entries of a request that still runs, and of its upstream attempts, say what its last one says.
import { tagOf, WireError, WireReader } from "../../platform/protobuf-reader.ts";

const ENTRIES_MAX = 10_000;
const VALUES_MAX = 200;

/** One logged request. */
export interface AccessLogEntry {
  /** Dynamic metadata: namespace -> key -> number or text. */
  readonly metadata: ReadonlyMap<string, ReadonlyMap<string, string | number>>;
  readonly headers: ReadonlyMap<string, string>;
  readonly status: number | undefined;
  readonly route: string | undefined;
  readonly durationSeconds: number | undefined;
  /** Who ended the answer before it was whole. */
  readonly cutBy: "client" | "upstream" | undefined;
  /** Address and port of who answered. */
  readonly upstream: string | undefined;
}

interface Draft {
  readonly metadata: Map<string, Map<string, string | number>>;
  readonly headers: Map<string, string>;
  status: number | undefined;
  route: string | undefined;
  durationSeconds: number | undefined;
  cutBy: "client" | "upstream" | undefined;
  upstream: string | undefined;
  last: boolean;
}

/** ResponseFlags that mean an answer from upstream broke off: timeout, reset, connection, idle, duration, protocol. */
const UPSTREAM_FLAGS = [3, 5, 7, 17, 20, 23, 24];
const CLIENT_FLAG = 15;
/** AccessLogType: not set (by older Envoys), and the end of a request as its client saw it. */
const FINAL_TYPES: readonly number[] = [0, 6];

/** The HTTP entries of one message; throws WireError when it is none. */
export function decodeAccessLogs(bytes: Uint8Array): AccessLogEntry[] {
  const reader = new WireReader(bytes);
  const entries: AccessLogEntry[] = [];
  within(reader, {
    [message(2)]: () =>
      into(reader, message(1), () => {
        const { last, ...entry } = readEntry(reader, entries.length);
        if (last) entries.push(entry);
      }),
  });
  return entries;
}

function readEntry(reader: WireReader, count: number): Draft {
  if (count >= ENTRIES_MAX) throw new WireError(`Cannot take more than ${ENTRIES_MAX} log entries at once`);
  const draft: Draft = {
    metadata: new Map(),
    headers: new Map(),
    status: undefined,
    route: undefined,
    durationSeconds: undefined,
    cutBy: undefined,
    upstream: undefined,
    last: true,
  };
  const readStatus = (): void => {
    draft.status = reader.uint();
  };
  nested(reader, {
    [message(1)]: () => readCommon(reader, draft),
    [message(3)]: () => into(reader, message(13), () => readHeader(reader, draft)),
    // response_code 1: UInt32Value {value 1}.
    [message(4)]: () => into(reader, message(1), () => nested(reader, { [tagOf(1, "varint")]: readStatus })),
  });
  return draft;
}

function readCommon(reader: WireReader, draft: Draft): void {
  nested(reader, {
    [message(13)]: () => {
      draft.upstream = readAddress(reader);
    },
    [message(16)]: () => {
      draft.cutBy = readFlags(reader);
    },
    [message(17)]: () => into(reader, message(1), () => readNamespace(reader, draft)),
    [message(19)]: () => {
      draft.route = reader.text();
    },
    [message(23)]: () => {
      draft.durationSeconds = readDuration(reader);
    },
    [tagOf(26, "varint")]: () => {
      if (reader.uint() !== 0) draft.last = false;
    },
    [tagOf(33, "varint")]: () => {
      if (!FINAL_TYPES.includes(reader.uint())) draft.last = false;
    },
  });
}

/** Address: socket_address 1 {address 2, port_value 3}; undefined for any other. */
function readAddress(reader: WireReader): string | undefined {
  let [host, port] = ["", 0];
  const readSocket = (): void =>
    nested(reader, {
      [message(2)]: () => {
        host = reader.text();
      },
      [tagOf(3, "varint")]: () => {
        port = reader.uint();
      },
    });
  nested(reader, { [message(1)]: readSocket });
  return host === "" ? undefined : `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function readFlags(reader: WireReader): Draft["cutBy"] {
  let cutBy: Draft["cutBy"];
  const set = (by: "client" | "upstream") => (): void => {
    if (reader.uint() !== 0 && cutBy !== "client") cutBy = by;
  };
  const upstream = UPSTREAM_FLAGS.map((flag) => [tagOf(flag, "varint"), set("upstream")]);
  nested(reader, { ...Object.fromEntries(upstream), [tagOf(CLIENT_FLAG, "varint")]: set("client") });
  return cutBy;
}

function readDuration(reader: WireReader): number {
  let seconds = 0;
  nested(reader, {
    [tagOf(1, "varint")]: () => {
      seconds += reader.uint();
    },
    [tagOf(2, "varint")]: () => {
      seconds += reader.uint() / 1e9;
    },
  });
  return seconds;
}

function readHeader(reader: WireReader, draft: Draft): void {
  let [name, value] = ["", ""];
  nested(reader, {
    [message(1)]: () => {
      name = reader.text();
    },
    [message(2)]: () => {
      value = reader.text();
    },
  });
  if (draft.headers.size < VALUES_MAX) draft.headers.set(name.toLowerCase(), value);
}

/** One entry of filter_metadata: its key 1 and its Struct 2, of which scalar fields are kept. */
function readNamespace(reader: WireReader, draft: Draft): void {
  const values = new Map<string, string | number>();
  let name = "";
  nested(reader, {
    [message(1)]: () => {
      name = reader.text();
    },
    [message(2)]: () => into(reader, message(1), () => readValue(reader, values)),
  });
  if (draft.metadata.size < VALUES_MAX) draft.metadata.set(name, values);
}

/** A field of a Struct: key 1, Value 2 {number 2, string 3}; nested structures are skipped. */
function readValue(reader: WireReader, values: Map<string, string | number>): void {
  let key = "";
  let value: string | number | undefined;
  const readScalar = (): void =>
    nested(reader, {
      [tagOf(2, "fixed64")]: () => {
        value = reader.double();
      },
      [message(3)]: () => {
        value = reader.text();
      },
    });
  nested(reader, {
    [message(1)]: () => {
      key = reader.text();
    },
    [message(2)]: readScalar,
  });
  if (value !== undefined && values.size < VALUES_MAX) values.set(key, value);
}

const message = (field: number): number => tagOf(field, "bytes");

/** What to do at each tag. */
type Fields = Readonly<Record<number, () => unknown>>;

/** Runs what `fields` says over the current message; other fields are skipped. */
function within(reader: WireReader, fields: Fields): void {
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    const run = fields[tag];
    if (run === undefined) reader.skip(tag);
    else run();
  }
}

/** The same over the message that follows. */
function nested(reader: WireReader, fields: Fields): void {
  const outer = reader.enter();
  within(reader, fields);
  reader.leave(outer);
}

/** Runs `run` at each `tag` of the message that follows. */
function into(reader: WireReader, tag: number, run: () => unknown): void {
  nested(reader, { [tag]: run });
}
