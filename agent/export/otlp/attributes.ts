// Attributes and the fixed head of a request (resource, scope) as OTLP bytes. opentelemetry-proto 1.x, common.proto.
import {
  bytesField,
  fieldSize,
  join,
  stringField,
  varintSize,
  WireWriter,
} from "../../platform/protobuf-writer.ts";

/** Values a resource attribute may have. */
export type AttributeValue = string | number | boolean;
/** Attributes by full name. */
export type Attributes = Readonly<Record<string, AttributeValue>>;

const KEY = 0x0a;
const VALUE = 0x12;
const STRING = 0x0a;
const BOOL = 0x10;
const INT = 0x18;
const DOUBLE = 0x21;

/** Bytes of the attributes as repeated KeyValue fields. */
export function attributesSize(attributes: Attributes): number {
  let size = 0;
  for (const key in attributes) size += fieldSize(pairSize(key, attributes[key] ?? ""));
  return size;
}

/**
 * Writes repeated KeyValue fields under `tag`, sorted by key, so that equal sets are equal bytes: readers may use them
 * as the identity of a series.
 */
export function writeAttributes(writer: WireWriter, tag: number, attributes: Attributes): void {
  for (const key of Object.keys(attributes).sort()) {
    const value = attributes[key] ?? "";
    writer.head(tag, pairSize(key, value));
    writer.text(KEY, key, Buffer.byteLength(key));
    writer.head(VALUE, valueSize(value));
    if (typeof value === "string") {
      writer.text(STRING, value, Buffer.byteLength(value));
    } else if (typeof value === "boolean") {
      writer.head(BOOL, value ? 1 : 0);
    } else if (isSmall(value)) {
      writer.head(INT, value);
    } else {
      writer.double(DOUBLE, value);
    }
  }
}

function pairSize(key: string, value: AttributeValue): number {
  return fieldSize(Buffer.byteLength(key)) + fieldSize(valueSize(value));
}

function valueSize(value: AttributeValue): number {
  if (typeof value === "string") return fieldSize(Buffer.byteLength(value));
  if (typeof value === "boolean") return 2;
  return isSmall(value) ? 1 + varintSize(value) : 9;
}

/** Whether a number goes out as an integer; others as double. */
function isSmall(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < 2 ** 31;
}

/** What precedes the metrics of every request, and how to size the messages around them. */
export interface RequestHead {
  /** Size of a whole request whose Metric fields take `metrics` bytes. */
  size(metrics: number): number;
  /** A writer, into `buffer` where one is given, with everything up to the first Metric field written. */
  begin(metrics: number, buffer?: Buffer): WireWriter;
}

/** The head of requests of one resource and scope; both are of the schema, whose URL is field 3 behind their content. */
export function requestHead(
  resource: Attributes,
  scope: { name: string; version: string },
  schemaUrl: string,
): RequestHead {
  const attributes = new WireWriter(attributesSize(resource));
  writeAttributes(attributes, 0x0a, resource);
  const resourceField = bytesField(0x0a, attributes.bytes);
  const scopeField = bytesField(
    0x0a,
    join([stringField(0x0a, scope.name), stringField(0x12, scope.version)]),
  );
  const schema = stringField(0x1a, schemaUrl);
  return rawRequestHead(join([resourceField, schema]), join([scopeField, schema]));
}

/** The same from fields already encoded, schema URLs among them, as they were found in a request. */
export function rawRequestHead(resourceField: Uint8Array, scopeField: Uint8Array): RequestHead {
  const scoped = (metrics: number): number => scopeField.length + metrics;
  const whole = (metrics: number): number => resourceField.length + fieldSize(scoped(metrics));
  return {
    size: (metrics) => fieldSize(whole(metrics)),
    begin: (metrics, buffer) => {
      const writer = new WireWriter(fieldSize(whole(metrics)), buffer);
      writer.head(0x0a, whole(metrics));
      writer.raw(resourceField);
      writer.head(0x12, scoped(metrics));
      writer.raw(scopeField);
      return writer;
    },
  };
}
