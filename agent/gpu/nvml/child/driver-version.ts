// What differs between drivers and is said by nothing but their version: row sizes and field ids that changed in place.
// Facts: headers of PyPI nvidia-ml-py 12.570 to 13.615 and nvidia-nvml-dev 11.8 to 13.5; go-nvml#75 for driver 535.

/** A driver's version by its parts: `535.86.05` is [535, 86, 5]. */
export type DriverVersion = readonly number[];

/** The parts of a version text; undefined for anything else. */
export function parseDriverVersion(text: string | undefined): DriverVersion | undefined {
  const match = /^(\d{3,4})\.(\d+)(?:\.(\d+))?/.exec(text ?? "");
  return match === null ? undefined : match.slice(1).map((part) => Number(part ?? 0));
}

/** Bytes of a row of the newest process lists as this driver should write them; the buffer has the last word. */
export function processRowBytes(version: DriverVersion | undefined): number {
  return version !== undefined && within(version, [535, 43], [535, 104]) ? 32 : 24;
}

/** Field ids of the throttle counters that moved: software thermal, hardware thermal and power brake. */
export interface ThrottleFields {
  readonly softwareThermal: number;
  readonly hardwareThermal: number;
  readonly powerBrake: number;
}

/**
 * The ids this driver counts throttle time under, or why they are not known: asked under the wrong ids it answers with
 * settings of power smoothing.
 */
export function throttleFields(
  version: DriverVersion | undefined,
): ThrottleFields | { readonly absent: string } {
  if (version === undefined)
    return { absent: "the driver's version is not known, and with it their field ids" };
  if (compare(version, [575, 51]) < 0) return { absent: "this driver counts them from 575.51 on" };
  if (compare(version, [580, 65, 99]) < 0)
    return { softwareThermal: 251, hardwareThermal: 252, powerBrake: 253 };
  if (compare(version, [580, 82]) < 0) return { absent: "their field ids changed between 580.65 and 580.82" };
  return { softwareThermal: 269, hardwareThermal: 270, powerBrake: 271 };
}

function within(version: DriverVersion, from: DriverVersion, to: DriverVersion): boolean {
  return compare(version, from) >= 0 && compare(version, to) < 0;
}

function compare(left: DriverVersion, right: DriverVersion): number {
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
