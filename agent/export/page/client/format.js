// How values are written on the page, and how elements are made. Text goes in as text nodes only: names come from outside.

/** What is shown where a value is not known. */
export const NOTHING = "–";

export const number = (value, digits = 0) =>
  value === null || value === undefined
    ? NOTHING
    : value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** Three figures that matter: 1,234 - 12.3 - 0.123. */
export const figure = (value) =>
  value === null || value === undefined
    ? NOTHING
    : number(
        value,
        Math.abs(value) >= 100 || value === 0 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3,
      );

export const compact = (value) =>
  value === null || value === undefined
    ? NOTHING
    : value >= 1e9
      ? `${figure(value / 1e9)} G`
      : value >= 1e6
        ? `${figure(value / 1e6)} M`
        : value >= 1e5
          ? `${figure(value / 1e3)} k`
          : number(value);

export const percent = (ratio, digits = 0) =>
  ratio === null || ratio === undefined ? NOTHING : `${number(100 * ratio, digits)} %`;

export const unit = (value, name, digits = 0) =>
  value === null || value === undefined ? NOTHING : `${number(value, digits)} ${name}`;

export const gibibytes = (bytes) =>
  bytes === null || bytes === undefined ? NOTHING : number(bytes / 2 ** 30, 1);

export const money = (value, currency) =>
  value === null || value === undefined || currency === null ? NOTHING : `${number(value, 2)} ${currency}`;

export const energy = (joules) =>
  joules >= 3.6e6
    ? `${figure(joules / 3.6e6)} kWh`
    : joules >= 3600
      ? `${figure(joules / 3600)} Wh`
      : `${figure(joules)} J`;

export const duration = (seconds) =>
  seconds < 90
    ? `${Math.round(seconds)} s`
    : seconds < 5400
      ? `${Math.round(seconds / 60)} min`
      : seconds < 172800
        ? `${number(seconds / 3600, 1)} h`
        : `${Math.round(seconds / 86400)} days`;

/** How many of something: 1 GPU, 8 GPUs. */
export const counted = (amount, one) => `${number(amount)} ${one}${amount === 1 ? "" : "s"}`;

/** An element with attributes and children; strings become text. */
export const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

export const byId = (id) => document.getElementById(id);

/** Text with `commands` as code. */
export const withCode = (text) =>
  text.split("`").map((part, index) => (index % 2 === 1 ? make("code", {}, part) : part));

export const stateClass = (state) => state.replace("_", "-");

export const stateLabel = (state) => STATES.looks[state]?.label ?? state;
