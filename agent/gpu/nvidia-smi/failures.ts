// Whole-tool failures of nvidia-smi, recognised by their text: exit codes differ between versions, wording barely.
import type { SourceErrorKind } from "../../source.ts";
import { SourceError } from "../../source.ts";

interface Pattern {
  readonly text: RegExp;
  readonly kind: SourceErrorKind;
  readonly hint: string;
}

const PATTERNS: readonly Pattern[] = [
  {
    text: /Driver\/library version mismatch/i,
    kind: "transient",
    hint: "the loaded kernel driver and the installed tools differ: reload the driver or reboot; restart the container",
  },
  {
    text: /couldn't communicate with the NVIDIA driver/i,
    kind: "transient",
    hint: "load the NVIDIA kernel driver (modprobe nvidia) and check dmesg for NVRM lines",
  },
  { text: /No devices were found/i, kind: "absent", hint: "check lspci and dmesg for the GPU" },
  {
    text: /GPU is lost|Unable to determine the device handle/i,
    kind: "transient",
    hint: "a GPU fell off the bus: reset it or reboot; nvidia-smi answers for none until then",
  },
  {
    text: /Failed to initialize NVML:\s*Unknown Error/i,
    kind: "transient",
    hint: "access to /dev/nvidia* was withdrawn (often a systemd reload under a container); restart the container",
  },
  {
    text: /Insufficient Permissions/i,
    kind: "transient",
    hint: "give the agent read access to /dev/nvidia*",
  },
  {
    text: /Failed to initialize NVML/i,
    kind: "transient",
    hint: "check that driver and tools are installed together",
  },
];

/** Whether a line of output is a message of the tool instead of data. A bracketed cell is one value that is not there. */
export function isFailure(line: string): boolean {
  const said = line.replaceAll(/\[[^\]]*\]/g, "");
  return PATTERNS.some(({ text }) => text.test(said)) || /^NVIDIA-SMI has failed/i.test(said);
}

/** The error for a run that did not print what was asked. */
export function failureOf(program: string, output: string, cause?: string): SourceError {
  if (cause === "ENOENT" || cause === "EACCES") {
    return new SourceError(
      "absent",
      `Cannot run ${program}: ${cause === "ENOENT" ? "not found" : "not allowed (EACCES)"}`,
      {
        hint: "install the NVIDIA driver's tools or set gpu.nvidia-smi.path",
      },
    );
  }
  const line = output.split("\n").find((text) => isFailure(text)) ?? output.split("\n").at(-1) ?? "";
  const known = PATTERNS.find(({ text }) => text.test(line));
  const said = line.trim().slice(0, 200) || "no output";
  return new SourceError(known?.kind ?? "transient", `Cannot read GPUs with ${program}: ${said}`, {
    ...(known === undefined ? {} : { hint: known.hint }),
  });
}

/** A word of `--query-gpu` output when one field is unknown: it aborts everything. */
export function unknownField(output: string): string | undefined {
  return /Field "([^"]+)" is not a valid field/i.exec(output)?.[1];
}
