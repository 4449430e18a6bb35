// node.version: whether this Node can run the agent, and whether it is the one that was tested.
import type { Check, Finding } from "./check.ts";

const MAJOR_TESTED = 24;
const MINOR_LEAST = 20;

/** Judges the version of Node. */
export const nodeCheck: Check = {
  ids: ["node.version"],
  run: async () => [judgeNode(process.versions.node)],
};

/** The verdict on a Node version. Exported for its test: this process has one version. */
export function judgeNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const id = "node.version";
  const seen = `Node ${version}`;
  if (major < MAJOR_TESTED || (major === MAJOR_TESTED && minor < MINOR_LEAST)) {
    const remedy = `use Node ${MAJOR_TESTED}.${MINOR_LEAST} or newer; \`npm ci\` installs it beside the program`;
    return { id, verdict: "fail", seen, remedy };
  }
  if (major > MAJOR_TESTED) {
    return {
      id,
      verdict: "warn",
      seen: `${seen}, tested with ${MAJOR_TESTED}`,
      remedy: `use Node ${MAJOR_TESTED}`,
    };
  }
  return { id, verdict: "ok", seen };
}
