// What `policy check` warns of: what the configuration can never count, and names that no usage in its ledger has.
import type { Config } from "../../config/load.ts";
import { readPrices } from "../../config/prices.ts";
import { policyWarnings } from "../../config/quota-feeds.ts";
import type { Catalogue } from "../../meter/money/catalogue.ts";
import type { Policy } from "../../policy/config.ts";
import { LedgerReader } from "../../store/ledger/reader.ts";
import { ledgerPath } from "../../store/state-folder.ts";
import { neverUsed } from "./choice.ts";

/** The warnings, a sentence each. */
export function warningsOf(policy: Policy, config: Config): readonly string[] {
  return [...policyWarnings(policy, config, cataloguedBy(config)), ...unusedNames(policy, config.stateDir)];
}

/** The price file's catalogue; one that cannot be read is `config check`'s to tell. */
function cataloguedBy({ prices }: Config): Catalogue | undefined {
  try {
    return prices === undefined ? undefined : readPrices(prices);
  } catch {
    return undefined;
  }
}

/** Names of the policy that no usage in the ledger has, where there is a ledger to ask: most often they are misspelt. */
function unusedNames(policy: Policy, stateDir: string): readonly string[] {
  let reader: LedgerReader | undefined;
  try {
    reader = new LedgerReader(ledgerPath(stateDir));
    return neverUsed(policy, reader);
  } catch {
    return [];
  } finally {
    reader?.close();
  }
}
