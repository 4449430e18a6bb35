// What a page says of the process that wrote it: when it began, and by what its next run is told from this one.
import type { Nanos } from "../../model.ts";
import type { FetchedPage } from "../../page/fetch.ts";
import type { MetricPage, SourceContext } from "../../source.ts";
import { startEpoch } from "./labels.ts";
import { headerEpoch } from "./located.ts";
import type { PageLook } from "./runs.ts";

const NANOS_PER_SECOND = 1e9;

/** What a page says of the process that wrote it; `epochHeader`: a response header that identifies the run. */
export function processOf(
  page: MetricPage,
  server: { readonly epochHeader?: string },
  { headers }: FetchedPage,
  context: SourceContext,
): Pick<PageLook, "epoch" | "began" | "instant" | "oldest"> {
  const instant = (unixSeconds: number): Nanos =>
    context.clock.instant(BigInt(Math.round(unixSeconds * 1e6)) * (BigInt(NANOS_PER_SECOND) / 1_000_000n));
  const facts = { instant, oldest: () => oldestCreated(page, instant) };
  const start = page.samples.get("process_start_time_seconds")?.[0]?.value;
  if (start !== undefined && start > 0) return { ...facts, epoch: startEpoch(start), began: instant(start) };
  const header = server.epochHeader === undefined ? undefined : headers[server.epochHeader];
  const epoch = typeof header === "string" ? headerEpoch(header) : undefined;
  return { ...facts, epoch, began: undefined };
}

function oldestCreated(page: MetricPage, instant: (unixSeconds: number) => Nanos): Nanos | undefined {
  let oldest = Number.POSITIVE_INFINITY;
  for (const [name, samples] of page.samples) {
    if (!name.endsWith("_created")) continue;
    for (const { value } of samples) if (value > 0) oldest = Math.min(oldest, value);
  }
  return oldest === Number.POSITIVE_INFINITY ? undefined : instant(oldest);
}
