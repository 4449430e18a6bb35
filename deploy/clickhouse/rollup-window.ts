// The window of a question to the rollup, as parameters of its views.

/** The instant the window begins with. */
export const FROM = "{from:DateTime64(9)}";
/** The instant it ends before. */
export const TO = "{to:DateTime64(9)}";
const QUARTER = "900000000000";

/** A bucket cannot be cut: a window that would need it is refused, not rounded. */
export const ALIGNED = `throwIf(toUnixTimestamp64Nano(${FROM}) % ${QUARTER} != 0 OR toUnixTimestamp64Nano(${TO}) % ${QUARTER} != 0,
        'from and to must be full quarters of an hour') = 0`;
