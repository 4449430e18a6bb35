// server.reachable: whether each server answers, configured or found. server.counters: whether it counts tokens.
// One poll through the server's own source, so that doctor sees what the daemon would see.
import { createSecureContext } from "node:tls";
import { configuredServers } from "../../config/load.ts";
import { ownerElsewhere } from "../../config/open-server.ts";
import type { ServerInfo } from "../../model.ts";
import type { ListenTls } from "../../platform/tls.ts";
import { explainTls, readTls } from "../../platform/tls.ts";
import type { ServerSource, ServerType } from "../../source.ts";
import { readStatus } from "../common/daemon-process.ts";
import type { Check, CheckContext, Finding } from "./check.ts";
import { reasonOf, within } from "./check.ts";
import { lookOf } from "./look.ts";
import { listenError } from "./port.ts";
import { firstReading, judgeSample } from "./reading.ts";

const READ_MS = 8000;
const STATUS_MS = 2000;

/** Reads each configured server once. */
export const serversCheck: Check = {
  ids: ["server.reachable", "server.counters"],
  run: async (context) => {
    if (context.loaded === undefined) return [];
    const servers = configuredServers(context.loaded.config).filter(
      ({ entry }) => ownerElsewhere(entry, context.hostNames ?? []) === undefined,
    );
    const [look, ...findings] = await Promise.all([
      lookOf(context, context.loaded),
      ...servers.map(({ type, entry, path }) => judge(context, type, entry, path)),
    ]);
    const found = "failed" in look ? [] : look.found;
    if (servers.length > 0 || found.length > 0) return [...findings.flat(), ...found];
    const seen =
      "no server is configured and none is found: GPU time will be booked as other, not as token_active";
    const remedy =
      "name your inference servers under `servers` (`tokenwatt config init` shows how), or see what discovery.host and " +
      "discovery.kubernetes say";
    return [{ id: "server.reachable", verdict: "warn", seen, remedy }];
  },
};

async function judge(
  context: CheckContext,
  type: ServerType,
  entry: unknown,
  path: string,
): Promise<Finding[]> {
  let source: ServerSource | undefined;
  let info: ServerInfo | undefined;
  const fail = (seen: string, hint: string | undefined): Finding => ({
    id: "server.reachable",
    subject: info?.id ?? path,
    verdict: "fail",
    seen,
    remedy:
      hint ?? `is ${info?.address ?? path} the right address, and does the server publish its metrics there?`,
  });
  try {
    source = type.open(entry, context);
    info = source.info;
    if (listens(source)) return [unusableFiles(info, entry) ?? (await judgeReceiver(context, info))];
    const reading = await within(context, READ_MS, `asking ${info.address}`, firstReading(source));
    if ("reason" in reading) return [fail(reading.reason, reading.hint)];
    return judgeSample(info, reading);
  } catch (error) {
    const { seen, hint } = reasonOf(error);
    return [fail(seen, hint)];
  } finally {
    await source?.close().catch(() => {});
  }
}

/** Whether the source is a receiver: others call it, so there is nothing to ask. */
function listens(source: ServerSource): boolean {
  return "listening" in source;
}

/** A receiver that cannot listen because of its TLS files. */
function unusableFiles({ id, type }: ServerInfo, entry: unknown): Finding | undefined {
  const { tls } = entry as { readonly tls?: ListenTls };
  try {
    if (tls !== undefined) createSecureContext(readTls(tls));
    return undefined;
  } catch (error) {
    const { message } = error as Error;
    const [reason, remedy] = explainTls(message) ?? [message, "correct the path or its permissions"];
    const seen = `${type} cannot listen with TLS: ${reason}`;
    return { id: "server.reachable", subject: id, verdict: "fail", seen, remedy };
  }
}

async function judgeReceiver(context: CheckContext, info: ServerInfo): Promise<Finding> {
  const base = { id: "server.reachable", subject: info.id };
  const code = info.address.startsWith("unix:") ? undefined : await listenError(info.address);
  if (code === undefined)
    return { ...base, verdict: "ok", seen: `${info.type} can listen on ${info.address}` };
  const status = await readStatus(context.loaded?.config.export.prometheus ?? { listen: "" }, STATUS_MS);
  if (code === "EADDRINUSE" && status !== undefined) {
    return { ...base, verdict: "ok", seen: `${info.address} is held, a tokenwatt is running` };
  }
  const remedy = "choose another endpoint for it, or stop what listens there (`ss -ltnp` names it)";
  return { ...base, verdict: "fail", seen: `${info.type} cannot listen on ${info.address}: ${code}`, remedy };
}
