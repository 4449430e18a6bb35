// The recording of the demo's scene `solo`: one H100 80GB HBM3, driver 580.159.04, a decoder of 8B shape (125 s).
import { recordingsFolder } from "./scene.ts";

/** Its name in the documentation of the traces. */
export const demoRecording = "h100-solo-8b";

/** Its folder. */
export const demoFolder = `${recordingsFolder}/${demoRecording}`;
