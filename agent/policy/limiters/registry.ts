// Every kind of rate limiter whose page is read. Adding one is a file and a line here.
import { envoyRatelimit } from "./envoy-ratelimit.ts";
import { limitador } from "./limitador.ts";
import type { LimiterType } from "./limiter.ts";

/** The kinds by name, which is the `type` of an entry under `limiters`. */
export const limiterTypes: readonly LimiterType[] = [envoyRatelimit, limitador];
