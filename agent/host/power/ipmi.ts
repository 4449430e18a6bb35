// The BMC's power reading through `ipmitool dcmi power reading`: the whole node at its inlet, in watts.
// Needs ipmitool and access to /dev/ipmi0 (root by default). A BMC answers in 0.1-2 s, so one run at a time.
import type { Slot } from "../../platform/process.ts";
import { run } from "../../platform/process.ts";
import type { SourceContext } from "../../source.ts";
import type { MeterFound } from "./meter.ts";

const TIMEOUT_MS = 5000;

/**
 * Watts in the tool's answer; undefined when the BMC has no DCMI power.
 * Exported for its test: answers of every board.
 */
export function parseDcmi(output: string): number | undefined {
  const match = /Instantaneous power reading:\s*(\d+)\s*Watts/i.exec(output);
  const state = /Power reading state is:\s*(\w+)/i.exec(output)?.[1];
  // A deactivated measurement prints 0 W.
  return match === null || state?.toLowerCase() === "deactivated" ? undefined : Number(match[1]);
}

/** The BMC as a meter, or why it does not answer. */
export async function ipmiMeter(program: string, { clock }: SourceContext): Promise<MeterFound> {
  const slot: Slot = { busy: false };
  const ask = async (): Promise<{ watts: number } | { problem: string }> => {
    const command = { program, arguments: ["dcmi", "power", "reading"] };
    const ended = await run(clock, command, { timeoutMs: TIMEOUT_MS, bytesMax: 65_536 }, slot);
    const watts = parseDcmi(ended.stdout);
    if (watts !== undefined) return { watts };
    const said = (ended.problem ?? (ended.stderr.trim() || ended.stdout.trim())).split("\n").at(-1) ?? "";
    return {
      problem: ended.cause === "ENOENT" ? `${program} is not installed` : said.slice(0, 200) || "no answer",
    };
  };
  const first = await ask();
  if ("problem" in first) return { missing: first.problem };
  return {
    method: "ipmi",
    read: async () => {
      const answer = await ask();
      if ("problem" in answer) throw new Error(`Cannot read the BMC's power: ${answer.problem}`);
      return answer;
    },
  };
}
