// The recording the demo ships with: one H100 80GB HBM3, driver 580.159.04, a decoder of 8B shape (125 s).
import { fileURLToPath } from "node:url";

/** Its name in the documentation of the traces. */
export const demoRecording = "h100-solo-8b";

/** Its folder, beside agent/ in the source tree and beside the bundle when packed. */
export const demoFolder = fileURLToPath(new URL("../../../deploy/demo/h100-solo-8b", import.meta.url));
