// A dashboard as SVG, drawn from what Prometheus answered: for the documentation, without a browser and without Grafana.
// Nothing is smoothed, filled in or scaled away: points are joined where they are neighbours, axes begin at 0.
import type { Panel } from "./panels.ts";

/** A panel and the answers to its queries. */
export interface Drawn {
  readonly panel: Panel;
  readonly answers: readonly { readonly legend: string; readonly series: readonly Answer[] }[];
}

interface Answer {
  readonly metric: Readonly<Record<string, string>>;
  readonly value?: readonly [number, string];
  readonly values?: readonly (readonly [number, string])[];
}

interface Line {
  readonly name: string;
  readonly points: readonly (readonly [number, number])[];
}

const COLUMN = 50;
const HEIGHT = 220;
const PLOT = { left: 58, right: 12, top: 30, bottom: 58 };
const COLOURS = ["#3274d9", "#e0752d", "#37872d", "#b877d9", "#c4162a", "#8f8f00", "#0a9396", "#6d597a"];

/** The whole picture. */
export function picture(title: string, panels: readonly Drawn[]): string {
  let x = 0;
  let y = 40;
  const parts: string[] = [];
  for (const drawn of panels) {
    const width = (drawn.panel.width ?? 12) * COLUMN;
    if (x + width > 24 * COLUMN) {
      x = 0;
      y += HEIGHT + 10;
    }
    parts.push(`<g transform="translate(${x},${y})">${panelSvg(drawn, width - 10)}</g>`);
    x += width;
  }
  const height = y + HEIGHT + 10;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${24 * COLUMN}" height="${height}" font-family="sans-serif" font-size="11">
<title>${escaped(title)}</title>
<rect width="100%" height="100%" fill="#f4f5f5"/><text x="8" y="26" font-size="18">${escaped(title)}</text>
${parts.join("\n")}
</svg>
`;
}

function panelSvg({ panel, answers }: Drawn, width: number): string {
  const lines = answers.flatMap(({ legend, series }) => series.map((one) => lineOf(legend, one)));
  const head = `<rect width="${width}" height="${HEIGHT}" rx="3" fill="#fff" stroke="#d8d9da"/><text x="10" y="19" font-size="13">${escaped(panel.title)}</text>`;
  const range = answers.some((answer) => answer.series.some((one) => one.values !== undefined));
  if (lines.length === 0)
    return `${head}<text x="${width / 2}" y="${HEIGHT / 2}" text-anchor="middle" fill="#888">no data: not known here</text>`;
  return head + (range ? graph(panel, lines, width) : bars(panel, lines, width));
}

function lineOf(legend: string, { metric, value, values }: Answer): Line {
  const name = legend.replaceAll(/\{\{(\w+)\}\}/g, (_, label: string) => metric[label] ?? "").trim();
  const all = values ?? (value === undefined ? [] : [value]);
  return {
    name,
    points: all
      .map(([time, text]) => [time, Number(text)] as const)
      .filter(([, one]) => Number.isFinite(one)),
  };
}

function bars(panel: Panel, lines: readonly Line[], width: number): string {
  const rows = lines.slice(0, 9).map((line) => [line.name, line.points.at(-1)?.[1] ?? 0] as const);
  const most = Math.max(panel.max ?? 0, ...rows.map(([, value]) => value), 1e-12);
  const step = (HEIGHT - 45) / Math.max(rows.length, 3);
  return rows
    .map(([name, value], index) => {
      const y = 36 + index * step;
      const length = Math.max(0, ((width - 24) * value) / most);
      return `<rect x="12" y="${y + 14}" width="${length.toFixed(1)}" height="${Math.max(3, step - 24).toFixed(1)}" fill="${COLOURS[index % COLOURS.length]}"/><text x="12" y="${y + 10}">${escaped(name)}: <tspan font-weight="bold">${shown(value, panel.unit)}</tspan></text>`;
    })
    .join("");
}

function graph(panel: Panel, lines: readonly Line[], width: number): string {
  const times = lines.flatMap((line) => line.points.map(([time]) => time));
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const stacks = panel.stacked === true ? stacked(lines) : lines;
  const most =
    panel.max ?? Math.max(...stacks.flatMap((line) => line.points.map(([, value]) => value)), 1e-12);
  const least = Math.min(0, ...stacks.flatMap((line) => line.points.map(([, value]) => value)));
  const [w, h] = [width - PLOT.left - PLOT.right, HEIGHT - PLOT.top - PLOT.bottom];
  const px = (time: number): number => PLOT.left + (w * (time - first)) / Math.max(last - first, 1);
  const py = (value: number): number => PLOT.top + h - (h * (value - least)) / Math.max(most - least, 1e-12);
  const grid = [0, 0.5, 1].map((share) => {
    const value = least + share * (most - least);
    const y = py(value).toFixed(1);
    return `<line x1="${PLOT.left}" x2="${width - PLOT.right}" y1="${y}" y2="${y}" stroke="#e5e5e5"/><text x="${PLOT.left - 5}" y="${Number(y) + 4}" text-anchor="end" fill="#666">${shown(value, panel.unit)}</text>`;
  });
  const clock = (time: number): string => new Date(time * 1000).toISOString().slice(11, 19);
  const axis = `<text x="${PLOT.left}" y="${HEIGHT - 42}" fill="#666">${clock(first)}</text><text x="${width - PLOT.right}" y="${HEIGHT - 42}" text-anchor="end" fill="#666">${clock(last)} UTC</text>`;
  const paths = stacks.map((line, index) => {
    const d = line.points.map(
      ([time, value], at) => `${at === 0 ? "M" : "L"}${px(time).toFixed(1)} ${py(value).toFixed(1)}`,
    );
    return `<path d="${d.join("")}" fill="none" stroke="${COLOURS[index % COLOURS.length]}" stroke-width="1.6"/>`;
  });
  return [...grid, axis, ...paths, legend(stacks, width)].join("");
}

/** Each line on top of the ones before it, time by time. */
function stacked(lines: readonly Line[]): Line[] {
  const sums = new Map<number, number>();
  return lines.map(({ name, points }) => ({
    name,
    points: points.map(([time, value]) => {
      const sum = (sums.get(time) ?? 0) + value;
      sums.set(time, sum);
      return [time, sum] as const;
    }),
  }));
}

function legend(lines: readonly Line[], width: number): string {
  const each = Math.floor((width - 20) / Math.min(3, Math.max(1, lines.length)));
  return lines
    .slice(0, 6)
    .map(({ name }, index) => {
      const [x, y] = [12 + (index % 3) * each, HEIGHT - 24 + Math.floor(index / 3) * 15];
      const text = name.length * 6 > each - 20 ? `${name.slice(0, Math.floor((each - 26) / 6))}…` : name;
      return `<rect x="${x}" y="${y - 8}" width="10" height="3" fill="${COLOURS[index % COLOURS.length]}"/><text x="${x + 14}" y="${y - 2}">${escaped(text)}</text>`;
    })
    .join("");
}

function shown(value: number, unit: string): string {
  if (unit === "percentunit") return `${(100 * value).toFixed(1)} %`;
  const size = Math.abs(value);
  const text =
    size >= 1e9
      ? `${(value / 1e9).toFixed(1)}G`
      : size >= 1e6
        ? `${(value / 1e6).toFixed(1)}M`
        : size >= 1e4
          ? `${(value / 1e3).toFixed(1)}k`
          : `${Number(value.toPrecision(3))}`;
  const words: Readonly<Record<string, string>> = {
    watt: " W",
    bytes: " B",
    s: " s",
    h: " h",
    kwatth: " kWh",
  };
  return text + (words[unit] ?? "");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
