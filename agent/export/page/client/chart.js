// What is drawn: lanes of states on a canvas, curves as SVG. Colours are the variables of the style, read when drawn.
import { byId, figure, make, percent, stateLabel } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const colours = () => {
  const style = getComputedStyle(document.documentElement);
  const probe = make("i", { hidden: "" });
  document.body.append(probe);
  const found = STATES.order.map((state) => {
    probe.style.color = style.getPropertyValue(`--${state.replace("_", "-")}`);
    return getComputedStyle(probe).color;
  });
  probe.remove();
  return found;
};

const fitted = (canvas) => {
  const scale = window.devicePixelRatio || 1;
  const { height, width } = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  return canvas.getContext("2d");
};

/** Columns of stacked shares in percent, the first state at the bottom; an empty column stays empty. */
export const drawLane = (canvas, cells) => {
  const context = fitted(canvas);
  const { height, width } = canvas;
  const paint = colours();
  cells.forEach((shares, index) => {
    const left = Math.round((index * width) / cells.length);
    const right = Math.round(((index + 1) * width) / cells.length);
    let below = height;
    shares.forEach((share, place) => {
      const tall = (share / 100) * height;
      context.fillStyle = paint[place];
      below -= tall;
      context.fillRect(left, below, right - left, tall + 0.5);
      if (!STATES.looks[STATES.order[place]].isHatched || tall === 0) return;
      context.clearRect(left, below + tall / 2 - 1, right - left, 2);
    });
  });
};

/** One state a column, by its letter. */
export const drawMinute = (canvas, letters) => {
  const places = Object.fromEntries(STATES.order.map((state, place) => [STATES.letters[state], place]));
  const cells = [...letters].map((letter) =>
    places[letter] === undefined ? [] : STATES.order.map((_, place) => (place === places[letter] ? 100 : 0)),
  );
  drawLane(canvas, cells);
};

/** What a lane shows, for those who do not see it. */
export const laneSummary = (name, cells) => {
  const seen = cells.filter((cell) => cell.length > 0);
  if (seen.length === 0) return `${name}: nothing yet`;
  const means = STATES.order.map((state, place) => [
    state,
    seen.reduce((sum, cell) => sum + cell[place], 0) / seen.length,
  ]);
  const parts = means
    .filter(([, mean]) => mean >= 0.5)
    .map(([state, mean]) => `${stateLabel(state)} ${Math.round(mean)} %`);
  return `${name}: ${parts.join(", ")}`;
};

export const activeShare = (cells) => {
  const seen = cells.filter((cell) => cell.length > 0);
  return seen.length === 0 ? null : seen.reduce((sum, cell) => sum + cell[0], 0) / seen.length / 100;
};

const piece = (name, attributes, text) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

/** A place on a time axis. */
export const minutesAgo = (minutes) =>
  minutes % 1 === 0 ? `-${minutes} min` : `-${Math.round(minutes * 60)} s`;

/** A step of 1, 2 or 5 that gives about four lines. */
const niceStep = (most) => {
  const power = 10 ** Math.floor(Math.log10(most / 4));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => most / step <= 4.5) ?? most;
};

/** A curve over equal cells; `null` is a hole in it. */
export const drawCurve = (id, values, { cellSeconds, minutes, untilMs, unit }) => {
  const place = byId(id);
  const { height, width } = place.getBoundingClientRect();
  const [left, right, top, bottom] = [46, 8, 22, 22];
  const known = values.filter((value) => value !== null);
  const most = Math.max(...known, 0) * 1.05 || 1;
  const x = (index) => left + ((index + 0.5) / values.length) * (width - left - right);
  const y = (value) => height - bottom - (value / most) * (height - top - bottom);
  const svg = piece("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": curveSummary(values, unit),
  });
  for (let line = 0; line <= most; line += niceStep(most)) {
    svg.append(piece("line", { class: "grid", x1: left, x2: width - right, y1: y(line), y2: y(line) }));
    svg.append(piece("text", { x: left - 6, y: y(line) + 4, "text-anchor": "end" }, figure(line)));
  }
  for (const part of [1, 0.75, 0.5, 0.25, 0]) {
    const at = left + (1 - part) * (width - left - right);
    const anchor = part === 0 ? "end" : part === 1 ? "start" : "middle";
    const text = part === 0 ? "now" : minutesAgo(minutes * part);
    svg.append(piece("text", { x: at, y: height - 4, "text-anchor": anchor }, text));
  }
  for (const run of runsOf(values)) {
    const line = run.map(([index, value]) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    const [first, last] = [x(run[0][0]), x(run.at(-1)[0])];
    svg.append(piece("polygon", { class: "area", points: `${first},${y(0)} ${line} ${last},${y(0)}` }));
    svg.append(
      piece("polyline", {
        class: "curve",
        points: run.length === 1 ? `${line} ${first + 3},${y(run[0][1])}` : line,
      }),
    );
  }
  const said = make("output", {}, known.length === 0 ? "nothing yet" : "");
  const cross = piece("line", { class: "cross", y1: top, y2: height - bottom, visibility: "hidden" });
  svg.append(cross);
  svg.addEventListener("pointermove", (event) => {
    const share = (event.offsetX - left) / (width - left - right);
    const index = Math.min(values.length - 1, Math.max(0, Math.floor(share * values.length)));
    const when = new Date(untilMs - (values.length - 1 - index) * cellSeconds * 1000);
    said.textContent = `${when.toLocaleTimeString()}  ${figure(values[index])} ${unit}`;
    for (const end of ["x1", "x2"]) cross.setAttribute(end, x(index));
    cross.setAttribute("visibility", "visible");
  });
  svg.addEventListener("pointerleave", () => {
    said.textContent = "";
    cross.setAttribute("visibility", "hidden");
  });
  place.replaceChildren(svg, said);
};

const curveSummary = (values, unit) => {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return "nothing yet";
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  return `last ${figure(known.at(-1))} ${unit}, mean ${figure(mean)}, highest ${figure(Math.max(...known))}; ${percent(known.length / values.length)} of the time is known`;
};

const runsOf = (values) => {
  const runs = [];
  let run = [];
  values.forEach((value, index) => {
    if (value !== null) run.push([index, value]);
    else if (run.length > 0) {
      runs.push(run);
      run = [];
    }
  });
  return run.length > 0 ? [...runs, run] : runs;
};
