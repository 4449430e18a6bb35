// Tables that sort by any column, by mouse and by keyboard. A row keeps its place in the order of its key; what is not known
// comes last either way.
import { drawMinute } from "./chart.js";
import {
  byId,
  compact,
  duration,
  energy,
  figure,
  gibibytes,
  make,
  money,
  number,
  percent,
  stateClass,
  stateLabel,
  unit,
} from "./format.js";

/** Column: its head, what a row is sorted by, what is shown. */
const column = (head, value, show, text = false) => ({ head, value, show, text });
/** By their names, quotas the fullest first. */
const orders = new Map([["quotas", { by: 3, down: true }]]);

/** Draws a table into the element of that name. */
export const drawTable = (id, columns, rows, empty, again) => {
  const place = byId(id);
  if (rows.length === 0) {
    place.replaceChildren(make("p", { class: "none" }, empty));
    return;
  }
  const order = orders.get(id) ?? { by: 0, down: false };
  const { value } = columns[order.by] ?? columns[0];
  const sorted = rows.toSorted((one, other) => compare(value(one), value(other), order.down));
  const focused = document.activeElement?.dataset?.column;
  const isHere = place.contains(document.activeElement) && focused !== undefined;
  const head = columns.map(({ head: name, text }, index) => {
    const button = make("button", { type: "button", "data-column": String(index) }, name);
    button.addEventListener("click", () => {
      orders.set(id, { by: index, down: order.by === index ? !order.down : !text });
      again();
    });
    const sort = order.by === index ? { "aria-sort": order.down ? "descending" : "ascending" } : {};
    return make("th", { scope: "col", ...(text ? { class: "text" } : {}), ...sort }, button);
  });
  const body = sorted.map((row) =>
    make(
      "tr",
      {},
      ...columns.map(({ show, text }) => make("td", text ? { class: "text" } : {}, ...[show(row)].flat())),
    ),
  );
  place.replaceChildren(
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)),
  );
  for (const canvas of place.querySelectorAll("canvas")) drawMinute(canvas, canvas.dataset.letters);
  if (isHere) place.querySelector(`button[data-column="${focused}"]`)?.focus();
};

const compare = (one, other, down) => {
  if (one === other) return 0;
  if (one === null || one === undefined) return 1;
  if (other === null || other === undefined) return -1;
  const order = typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other;
  return down ? -order : order;
};

const chip = (state) =>
  state === null
    ? "–"
    : [make("span", { class: `swatch ${stateClass(state)}`, "aria-hidden": "true" }), stateLabel(state)];

export const gpuName = (gpu) => `${gpu.index}${gpu.mig_profile === null ? "" : ` ${gpu.mig_profile}`}`;

const holders = ({ held_by: held, problem }) =>
  problem ??
  (held
    .map(
      ({ kind, name, share }) =>
        `${kind === "server" || kind === name ? "" : `${kind} `}${name} ${percent(share)}`,
    )
    .join(", ") ||
    "–");

export const gpuColumns = [
  column("GPU", ({ index }) => index, gpuName),
  column(
    "model",
    ({ name }) => name,
    ({ name }) => name.replace(/^NVIDIA /, ""),
    true,
  ),
  column(
    "state",
    ({ state }) => state,
    ({ state }) => chip(state),
    true,
  ),
  column(
    "last minute",
    ({ state_seconds: by }) => by.token_active,
    ({ minute }) => make("canvas", { class: "minute", "data-letters": minute, "aria-hidden": "true" }),
    true,
  ),
  column(
    "util",
    (gpu) => gpu.utilization,
    (gpu) => percent(gpu.utilization),
  ),
  column(
    "power",
    (gpu) => gpu.power_watts,
    (gpu) =>
      `${unit(gpu.power_watts, "W")}${gpu.power_limit_watts === null ? "" : ` of ${number(gpu.power_limit_watts)}`}`,
  ),
  column(
    "memory GiB",
    (gpu) => gpu.memory_used_bytes,
    (gpu) => `${gibibytes(gpu.memory_used_bytes)} of ${gibibytes(gpu.memory_total_bytes)}`,
  ),
  column(
    "temp",
    (gpu) => gpu.temperature_celsius,
    (gpu) => unit(gpu.temperature_celsius, "°C"),
  ),
  column(
    "tok/s",
    (gpu) => gpu.tokens_per_second,
    (gpu) => number(gpu.tokens_per_second),
  ),
  column(
    "tok/J",
    (gpu) => gpu.tokens_per_joule,
    (gpu) => figure(gpu.tokens_per_joule),
  ),
  column(
    "token active",
    (gpu) => gpu.token_active_utilization,
    (gpu) => percent(gpu.token_active_utilization),
  ),
  column("held by", holders, holders, true),
];

export const serverColumns = (view) => [...serverNames(view), ...serverFigures(view)];

const serverNames = (view) => [
  column(
    "server",
    ({ id }) => id,
    ({ id }) => id,
  ),
  column(
    "kind",
    ({ type }) => type,
    ({ family, type, version }) =>
      `${type}${version === null ? "" : ` ${version}`}${family === "gateway" ? ", gateway" : ""}`,
    true,
  ),
  column(
    "models",
    ({ models }) => models.join(", "),
    ({ models }) => models.join(", ") || "–",
    true,
  ),
  column(
    "GPUs",
    ({ gpus }) => gpus.length,
    ({ gpus }) =>
      view.gpus
        .filter(({ uuid }) => gpus.includes(uuid))
        .map(gpuName)
        .join(", ") || "–",
    true,
  ),
  column(
    "answers",
    ({ ok }) => String(ok),
    ({ ok }) => (ok === null ? "not yet" : ok ? "yes" : "no"),
    true,
  ),
];

const serverFigures = (view) => [
  column(
    "running",
    (one) => one.running,
    (one) => number(one.running),
  ),
  column(
    "waiting",
    (one) => one.waiting,
    (one) => number(one.waiting),
  ),
  column(
    "tok/s",
    (one) => one.tokens_per_second,
    (one) => number(one.tokens_per_second),
  ),
  column(
    "output tok/s",
    (one) => one.output_tokens_per_second,
    (one) => number(one.output_tokens_per_second),
  ),
  column(
    "tok/J",
    (one) => one.tokens_per_joule,
    (one) => figure(one.tokens_per_joule),
  ),
  column(
    "tok/GPU-h",
    (one) => one.tokens_per_gpu_hour,
    (one) => compact(one.tokens_per_gpu_hour),
  ),
  column(
    "share of GPUs",
    (one) => one.share,
    (one) => percent(one.share),
  ),
  column(
    "cost per hour",
    (one) => one.cost_per_hour,
    (one) => money(one.cost_per_hour, view.currency),
  ),
];

export const tenantColumns = (view) => [
  column(
    "tenant",
    ({ tenant }) => tenant,
    ({ tenant }) => tenant,
  ),
  column(
    "tok/s",
    (one) => one.tokens_per_second,
    (one) => number(one.tokens_per_second),
  ),
  column(
    "tokens",
    (one) => one.tokens,
    (one) => number(one.tokens),
  ),
  column(
    "requests",
    (one) => one.requests,
    (one) => number(one.requests),
  ),
  column(
    "not ok",
    (one) => one.error_share,
    (one) => percent(one.error_share, 1),
  ),
  column(
    "GPU time",
    (one) => one.gpu_seconds,
    (one) => (one.gpu_seconds === null ? "–" : duration(one.gpu_seconds)),
  ),
  column(
    "energy",
    (one) => one.joules,
    (one) => (one.joules === null ? "–" : energy(one.joules)),
  ),
  column(
    "cost",
    (one) => one.cost,
    (one) => money(one.cost, view.currency),
  ),
];

export const quotaColumns = [
  column(
    "quota",
    ({ name }) => name,
    ({ name }) => name,
  ),
  column(
    "for",
    ({ key }) => Object.values(key).join(" "),
    ({ key }) => Object.values(key).join(" ") || "all",
    true,
  ),
  column(
    "state",
    ({ state }) => state,
    ({ state }) => state,
    true,
  ),
  column(
    "full",
    ({ limit, used }) => (limit === null || used === null ? null : used / limit),
    ({ limit, used }) => (limit === null || used === null ? "–" : percent(used / limit)),
  ),
  column(
    "used",
    ({ used }) => used,
    ({ used, whole_window }) => (used === null || whole_window ? number(used) : `at least ${number(used)}`),
  ),
  column(
    "limit",
    ({ limit }) => limit,
    ({ limit }) => number(limit),
  ),
  column(
    "of",
    ({ count }) => count,
    ({ count, currency, per }) => `${currency ?? count} per ${per}`,
    true,
  ),
  column(
    "resets",
    ({ until }) => until,
    ({ until }) => `${until.slice(0, 16).replace("T", " ")} UTC`,
    true,
  ),
];

export const destinationColumns = [
  column(
    "destination",
    ({ name }) => name,
    ({ name }) => name,
  ),
  column(
    "state",
    ({ state }) => state,
    ({ state }) => state,
    true,
  ),
  column(
    "sent points",
    (one) => one.sent_points,
    (one) => number(one.sent_points),
  ),
  column(
    "waiting",
    (one) => one.unsent_seconds,
    (one) => (one.unsent_seconds === 0 ? "nothing" : duration(one.unsent_seconds)),
  ),
  column(
    "last error",
    (one) => one.last_error,
    (one) => one.last_error ?? "none",
    true,
  ),
];
