// Attributes and the fixed head of a request (resource, scope) as OTLP bytes. opentelemetry-proto 1.x, common.proto.
import { bytesField, fieldSize, join, stringField, WireWriter } from "./wire.ts";

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

/**
 * Repeated KeyValue fields under `tag`, sorted by key, so that equal sets are equal bytes: readers may use them as the
 * identity of a series.
 */
export function attributeBytes(tag: number, attributes: Attributes): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const key of Object.keys(attributes).sort()) {
    const value = attributes[key];
    if (value === undefined) continue;
    parts.push(bytesField(tag, join([stringField(KEY, key), bytesField(VALUE, anyValue(value))])));
  }
  return join(parts);
}

function anyValue(value: AttributeValue): Uint8Array {
  if (typeof value === "string") return stringField(STRING, value);
  if (typeof value === "boolean") return Uint8Array.of(BOOL, value ? 1 : 0);
  if (Number.isSafeInteger(value) && value >= 0 && value < 2 ** 31) {
    const writer = new WireWriter(6);
    writer.head(INT, value);
    return writer.bytes.subarray(0, writer.length);
  }
  const writer = new WireWriter(9);
  writer.double(DOUBLE, value);
  return writer.bytes;
}

/** What precedes the metrics of every request, and how to size the messages around them. */
export interface RequestHead {
  /** Size of a whole request whose Metric fields take `metrics` bytes. */
  size(metrics: number): number;
  /** A writer with everything up to the first Metric field written. */
  begin(metrics: number): WireWriter;
}

/** The head of requests of one resource and scope. */
export function requestHead(resource: Attributes, scope: { name: string; version: string }): RequestHead {
  const resourceField = bytesField(0x0a, attributeBytes(0x0a, resource));
  const scopeField = bytesField(
    0x0a,
    join([stringField(0x0a, scope.name), stringField(0x12, scope.version)]),
  );
  return rawRequestHead(resourceField, scopeField);
}

/** The same from fields already encoded, as they were found in a request. */
export function rawRequestHead(resourceField: Uint8Array, scopeField: Uint8Array): RequestHead {
  const scoped = (metrics: number): number => scopeField.length + metrics;
  const whole = (metrics: number): number => resourceField.length + fieldSize(scoped(metrics));
  return {
    size: (metrics) => fieldSize(whole(metrics)),
    begin: (metrics) => {
      const writer = new WireWriter(fieldSize(whole(metrics)));
      writer.head(0x0a, whole(metrics));
      writer.raw(resourceField);
      writer.head(0x12, scoped(metrics));
      writer.raw(scopeField);
      return writer;
    },
  };
}
