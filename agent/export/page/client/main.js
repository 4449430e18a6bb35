// The page: takes the stream of `/-/view` and draws what it says. It asks nothing else of anybody.
import { activeShare, drawCurve, drawLane, laneSummary, minutesAgo } from "./chart.js";
import {
  byId,
  compact,
  counted,
  duration,
  energy,
  figure,
  make,
  money,
  number,
  percent,
  stateClass,
  stateLabel,
  unit,
  withCode,
} from "./format.js";
import { destinationColumns, drawTable, gpuColumns, serverColumns, tenantColumns } from "./tables.js";

/** Nothing for this long, and what is shown is said to be old. */
const STALE_MS = 10_000;
const shown = { view: null, history: null, at: 0, isPaused: false };

const drawAdvice = ({ advice, durable }) => {
  const cards = advice.map(({ id, remedy, seen, subject, verdict }) =>
    make(
      "div",
      { class: `card ${verdict}` },
      make(
        "p",
        {},
        make("b", { class: "word" }, verdict === "fail" ? "failure" : "warning"),
        subject === null ? "" : make("b", {}, `${subject}: `),
        seen,
      ),
      make(
        "p",
        { class: "quiet" },
        ...(remedy === null ? [] : withCode(remedy)),
        " (",
        make("code", {}, id),
        ")",
      ),
    ),
  );
  const forgets = durable ? "" : " Nothing is kept on disk: totals begin again with the agent.";
  const fine = make(
    "p",
    { class: "none" },
    ...withCode(`Nothing that the agent itself can tell; \`tokenwatt doctor\` looks from outside.${forgets}`),
  );
  byId("advice").replaceChildren(...(cards.length === 0 ? [fine] : cards));
};

/** Capacity used, where it is known from, and how old that is. */
const capacityWords = (capacity) => {
  if (capacity === null) return "capacity not known";
  const age = capacity.age_seconds === null ? "" : ` ${duration(capacity.age_seconds)} ago`;
  const { utilization, utilization_max: most, utilization_min: least } = capacity;
  const limit = most === null || capacity.limit_seen ? "" : ", limit not seen";
  const used = most === null ? percent(utilization) : `${percent(least)} to ${percent(most)}`;
  const { servers, servers_known: known } = capacity;
  const of = known < servers ? ` of ${known} of ${counted(servers, "server")}` : "";
  return `${used} of capacity${of} (${capacity.source}${age}${limit})`;
};

const drawTiles = ({ capacity, currency, gpus, whole, window_seconds: covered }) => {
  const seconds = whole.state_seconds;
  const held = seconds.token_active + seconds.stalled + seconds.parked;
  const tiles = [
    [
      "tokens per second",
      number(whole.tokens_per_second),
      `output ${number(whole.output_tokens_per_second)}`,
    ],
    ["tokens per joule", figure(whole.tokens_per_joule), "of held time"],
    ["tokens per GPU-hour", compact(whole.tokens_per_gpu_hour), "of held time"],
    [
      "token-active share",
      percent(whole.token_active_utilization),
      `of ${duration(held)} held; ${capacityWords(capacity)}`,
    ],
    [
      "power",
      unit(whole.power_watts, "W"),
      counted(gpus.filter(({ parent }) => parent === null).length, "GPU"),
    ],
    [
      "cost per hour",
      money(whole.cost_per_hour, currency),
      currency === null ? "no price is configured" : `last ${Math.round(covered)} s`,
    ],
  ];
  byId("tiles").replaceChildren(
    ...tiles.map(([name, value, note]) =>
      make(
        "li",
        {},
        make("span", { class: "quiet" }, name),
        make("b", {}, value),
        make("span", { class: "quiet" }, note),
      ),
    ),
  );
};

const drawStates = ({ gpus, minutes }) => {
  const lanes = gpus.map(({ cells, index, name }) => {
    const label = `GPU ${index} ${name.replace(/^NVIDIA /, "")}`;
    const canvas = make("canvas", { role: "img", "aria-label": laneSummary(label, cells) });
    const lane = make(
      "div",
      { class: "lane" },
      make("span", { title: label }, label),
      canvas,
      make("b", { title: "token active" }, percent(activeShare(cells))),
    );
    return { lane, draw: () => drawLane(canvas, cells) };
  });
  const axis = make(
    "div",
    { class: "axis quiet", "aria-hidden": "true" },
    ...[1, 0.75, 0.5, 0.25].map((part) => make("span", {}, minutesAgo(minutes * part))),
    make("span", {}, "now"),
  );
  byId("states").replaceChildren(
    ...(lanes.length === 0
      ? [make("p", { class: "none" }, "No GPU is read.")]
      : [...lanes.map(({ lane }) => lane), axis]),
  );
  for (const { draw } of lanes) draw();
};

const drawEnergy = ({ joules }) => {
  const all = [...STATES.order, "unattributed"]
    .map((state) => [state, joules[state]])
    .filter(([, value]) => value > 0);
  const whole = all.reduce((sum, [, value]) => sum + value, 0);
  if (whole === 0)
    return byId("energy").replaceChildren(make("p", { class: "none" }, "No joule was counted yet."));
  const rows = all.flatMap(([state, value]) => {
    const bar = make("div", { class: `bar ${stateClass(state)}` });
    bar.style.width = `${(100 * value) / whole}%`;
    return [
      make("dt", {}, stateLabel(state)),
      make("dd", {}, bar),
      make("dd", { class: "value" }, `${energy(value)}, ${percent(value / whole)}`),
    ];
  });
  return byId("energy").replaceChildren(make("dl", { class: "bars" }, ...rows));
};

const drawUnsure = ({ gpus, uncertain }) => {
  const lines = uncertain.map(({ gpus: on, says, seconds, server, share }) => {
    const where = on.length === gpus.length && on.length > 1 ? "all GPUs" : `GPU ${on.join(", ")}`;
    return make(
      "div",
      { class: "card" },
      make("b", {}, `${percent(share)} `),
      `of ${where}${server === null ? "" : `, ${server}`} (${number(seconds, 1)} s): ${says}`,
    );
  });
  byId("unsure").replaceChildren(
    ...(lines.length === 0
      ? [make("p", { class: "none" }, "Nothing: every second and joule was measured.")]
      : lines),
  );
};

const drawTables = () => {
  const { view } = shown;
  if (view === null) return;
  drawTable("gpus", gpuColumns, view.gpus, "No GPU is read.", drawTables);
  drawTable(
    "servers",
    serverColumns(view),
    view.servers,
    "No server is configured, and none was found.",
    drawTables,
  );
  byId("tenants-section").hidden = view.tenants === null || view.tenants.length === 0;
  drawTable("tenants", tenantColumns(view), view.tenants ?? [], "", drawTables);
  byId("quotas-section").hidden = view.quotas === null || view.quotas.length === 0;
  drawTable("quotas", quotaColumns, view.quotas ?? [], "", drawTables);
  drawTable(
    "out",
    destinationColumns,
    view.destinations,
    "Telemetry is sent nowhere: export.otlp.endpoint is off.",
    drawTables,
  );
};

const drawView = () => {
  const { view } = shown;
  if (view === null) return;
  document.title = `${view.host} - tokenwatt`;
  byId("host").textContent = view.host;
  byId("facts").textContent =
    `${counted(view.gpus.filter(({ parent }) => parent === null).length, "GPU")}, ${counted(view.servers.length, "server")}, ${number(view.series)} series, up ${duration(view.uptime_seconds)}, version ${view.version}`;
  drawAdvice(view);
  drawTiles(view);
  drawTables();
  drawUnsure(view);
};

/** The part of the hour that an agent of this age can fill, in minutes that have whole quarters. */
const filledPart = (history) => {
  const { cell_seconds: cell, gpus, tokens_per_second: tps, tokens_per_joule: tpj } = history;
  const first = Math.min(
    ...gpus.map(({ cells }) => cells.findIndex((shares) => shares.length > 0)).filter((at) => at >= 0),
    tps.findIndex((value) => value !== null) >>> 0,
  );
  const known = Math.max(0, tps.length - first) * cell;
  const minutes = [4, 12, 20, 40].find((span) => known <= span * 60) ?? Math.round((tps.length * cell) / 60);
  const last = (values) => values.slice(-Math.ceil((minutes * 60) / cell));
  return {
    ...history,
    minutes,
    gpus: gpus.map((gpu) => ({ ...gpu, cells: last(gpu.cells) })),
    tokens_per_second: last(tps),
    tokens_per_joule: last(tpj),
  };
};

const drawHistory = () => {
  if (shown.history === null) return;
  const history = filledPart(shown.history);
  for (const place of document.querySelectorAll(".span"))
    place.textContent = history.minutes === 60 ? "hour" : `${history.minutes} min`;
  const along = {
    minutes: history.minutes,
    cellSeconds: history.cell_seconds,
    untilMs: history.until_unix_ms,
  };
  drawStates(history);
  drawCurve("tps", history.tokens_per_second, { ...along, unit: "tok/s" });
  drawCurve("tpj", history.tokens_per_joule, { ...along, unit: "tok/J" });
  drawEnergy(history);
};

const say = (text, kind) => {
  const pill = byId("live");
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill ${kind}`;
};

const follow = () => {
  const source = new EventSource("/-/view");
  const take = (kind, draw) => (event) => {
    shown.at = Date.now();
    if (shown.isPaused) return;
    shown[kind] = JSON.parse(event.data);
    draw();
    say("live", "live");
  };
  source.addEventListener("view", take("view", drawView));
  source.addEventListener("history", take("history", drawHistory));
  source.addEventListener("error", () => {
    say("the agent does not answer", "lost");
    // A refused stream is not tried again by the browser itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, STALE_MS);
  });
};

const legend = STATES.order.map((state) =>
  make(
    "li",
    { title: STATES.looks[state].meaning },
    make("i", { class: stateClass(state), "aria-hidden": "true" }),
    stateLabel(state),
  ),
);
byId("legend").replaceChildren(...legend);

byId("pause").addEventListener("click", () => {
  shown.isPaused = !shown.isPaused;
  byId("pause").setAttribute("aria-pressed", String(shown.isPaused));
  say(shown.isPaused ? "paused" : "live", shown.isPaused ? "" : "live");
});

const darkness = matchMedia("(prefers-color-scheme: dark)");
let isDark = darkness.matches;
const setTheme = (dark) => {
  isDark = dark;
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
  byId("theme").textContent = dark ? "Light" : "Dark";
  drawView();
  drawHistory();
};
byId("theme").addEventListener("click", () => setTheme(!isDark));
darkness.addEventListener("change", ({ matches }) => setTheme(matches));
setTheme(isDark);

let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth === width) return;
  width = window.innerWidth;
  drawHistory();
  drawTables();
});

setInterval(() => {
  if (!shown.isPaused && shown.view !== null && Date.now() - shown.at > STALE_MS)
    say(`old: nothing for ${duration((Date.now() - shown.at) / 1000)}`, "lost");
}, 1000);

follow();
