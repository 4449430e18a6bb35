// Hosts drawn by chance, for what no list of regimes thinks of: engines of every kind under every load, pages and drivers of
// every kind in front of them, losses, strangers, several servers and several GPUs, each independent of the others.
import type { Draft, Load, Speed } from "./draws.ts";
import { arrivals, bursts, dcgm, engine, job, lengthSeconds, ranks, smi, tensorParallel } from "./draws.ts";
import type { GpuReading, PageReading, Regime } from "./meters.ts";
import { Random } from "./random.ts";
import { regimeOf } from "./regimes.ts";
import type { Engine, Job, Rank, Request } from "./world.ts";

/** Which hosts are drawn. */
export interface HostDraw {
  readonly number: number;
  readonly seed: number;
  readonly pollMs: number;
  /** One GPU, pages and drivers that answer at once and always, one poll like the next: a host in good order. */
  readonly isPlain?: boolean;
}

/** What comes of a draw, and in a few words what it was. */
interface Drawn<Value> {
  readonly value: Value;
  readonly words: readonly string[];
}

/** A host by its number and a seed; its name says what was drawn. */
export function randomHost({ isPlain = false, number, pollMs, seed }: HostDraw): Regime {
  const random = new Random(seed * 10_007 + number);
  const reading = readingOf(random, isPlain);
  const layout = layoutOf(random, isPlain);
  const pages = layout.value.map(({ id }) => [id, pageOf(random, pollMs, isPlain)] as const);
  const stranger = strangerOf(random, reading.value.processes !== false);
  const servers = layout.value.map(
    ({ id }, index) =>
      `${id} ${[layout.words[index], ...(pages[index]?.[1].words ?? [])].filter((word) => word !== "").join(", ")}`,
  );
  const draft: Draft = {
    gpus: Math.max(
      1,
      ...layout.value.flatMap(({ ranks: places }) =>
        places.flatMap(({ gpus }) => gpus.map((gpu) => gpu + 1)),
      ),
    ),
    engines: layout.value,
    jobs: stranger.value,
    read: reading.value,
    pages: Object.fromEntries(pages.map(([id, { value }]) => [id, value])),
  };
  const words = [...servers, ...stranger.words, ...reading.words].join("; ");
  return regimeOf({ name: `host ${number}: ${words}`, seed, pollMs }, draft, random);
}

/** What an engine is asked for: requests per second that keep it at work for about a third of the time, and their lengths. */
const works = {
  chat: { speed: "large", perSecond: 0.4, input: [50, 1200], output: [30, 400] },
  documents: { speed: "large", perSecond: 0.3, input: [2000, 12_000], output: [20, 250] },
  writer: { speed: "large", perSecond: 0.15, input: [30, 300], output: [300, 1200] },
  small: { speed: "small", perSecond: 0.6, input: [50, 1200], output: [30, 400] },
  guard: { speed: "guard", perSecond: 5, input: [100, 500], output: [1, 5] },
  embedding: { speed: "embedding", perSecond: 12, input: [50, 900], output: [1, 1] },
} as const satisfies Readonly<Record<string, Load & { readonly speed: Speed }>>;

/** Engines on their GPUs: alone, beside others, over several GPUs, or one beside each other. */
function layoutOf(random: Random, isPlain: boolean): Drawn<Engine[]> {
  const isWide = random.next() < 0.25 && !isPlain;
  const count = random.pick([1, 1, 1, 2, 2, 3]);
  const shape = random.pick(["tensor", "ranks", "ranks", "apart", "each"] as const);
  const gpus = random.pick([2, 2, 4]);
  const engines: Engine[] = [];
  const words: string[] = [];
  for (const [index, id] of ["a", "b", "c"].slice(0, isWide ? Math.min(count, 2) : count).entries()) {
    const places =
      isWide && (index === 0 || shape === "each") ? placesOf(random, shape, gpus, index) : undefined;
    const drawn = engineOf(random, id, places);
    engines.push(drawn.value);
    words.push(
      [
        ...drawn.words,
        ...(places === undefined ? [] : [`${shape} of ${places.flatMap((rank) => rank.gpus).length}`]),
      ].join(" "),
    );
  }
  return { value: engines, words };
}

function placesOf(
  random: Random,
  shape: "tensor" | "ranks" | "apart" | "each",
  gpus: number,
  index: number,
): Rank[] {
  if (shape === "tensor") return tensorParallel(random, gpus);
  if (shape === "ranks") return ranks(random, gpus);
  if (shape === "each") return [{ gpus: [index], role: "combined", pids: [random.whole(1000, 30_000)] }];
  return [
    { gpus: [0], role: "prefill", pids: [random.whole(1000, 30_000)] },
    { gpus: [1], role: "decode", pids: [random.whole(30_001, 60_000)] },
  ];
}

function engineOf(random: Random, id: string, places: readonly Rank[] | undefined): Drawn<Engine> {
  const work = random.pick(["chat", "chat", "documents", "writer", "small", "guard", "embedding"] as const);
  const { speed, ...usual } = works[work];
  const load = { ...usual, perSecond: usual.perSecond * Math.exp(random.between(-2, 1)) };
  const way = random.pick(["steady", "on and off", "bursts", "waves"] as const);
  const uneven = random.between(1, 2.5);
  const isLockstep = random.next() < 0.2;
  const batchMax = random.pick([8, 32, 64, 256]);
  const prefillChunk = random.pick([2048, 8192]);
  const guesses = random.next() < 0.1 ? random.whole(2, 5) : 1;
  const requests = requestsOf(random, way, load).map((request) =>
    places === undefined || places.length === 1
      ? request
      : { ...request, rank: Math.floor(places.length * random.next() ** uneven) },
  );
  const more = {
    batchMax,
    prefillChunk,
    tokensPerStepMax: guesses,
    ...(places === undefined
      ? {}
      : { ranks: places, lockstep: isLockstep && places.every(({ role }) => role === "combined") }),
  };
  return { value: engine(random, id, speed, requests, more), words: [work, way] };
}

function requestsOf(
  random: Random,
  way: "steady" | "on and off" | "bursts" | "waves",
  load: Load,
): Request[] {
  const to = lengthSeconds - 12;
  if (way === "steady") return arrivals(random, load);
  if (way === "waves") {
    const period = random.between(40, 160);
    return arrivals(random, { ...load, perSecond: 2 * load.perSecond }).filter(
      ({ at }) => random.next() < (1 + Math.sin((at / 1000 / period) * 2 * Math.PI)) / 2,
    );
  }
  const [on, off] = [random.between(4, 40), random.between(4, 40)];
  if (way === "bursts") {
    const size = Math.max(1, Math.round(load.perSecond * (on + off)));
    return bursts(random, {
      size: [Math.ceil(size / 2), 2 * size],
      pause: [off, on + off],
      input: load.input,
      output: load.output,
    });
  }
  const requests: Request[] = [];
  for (let from = 4; from < to; ) {
    const until = Math.min(to, from + random.wait(on));
    requests.push(...arrivals(random, { ...load, perSecond: 1.5 * load.perSecond, from, to: until }));
    from = until + random.wait(off);
  }
  return requests;
}

/** Work that is not metered: training of some duty, or a notebook; on a GPU without process lists nothing tells it from a server's. */
function strangerOf(random: Random, isSeen: boolean): Drawn<Job[]> {
  const isThere = random.next() < 0.2 && isSeen;
  const isTraining = random.next() < 0.6;
  const busyMs = isTraining ? random.whole(200, 1400) : random.whole(300, 1500);
  const restMs = isTraining ? Math.round(busyMs * random.between(0.02, 1.5)) : random.whole(1500, 9000);
  const [from, workTo] = [random.between(8, 80) * 1000, random.between(130, lengthSeconds) * 1000];
  const drawn = job(random, { busyMs, restMs, from, workFrom: from + 5000, workTo });
  if (!isThere) return { value: [], words: [] };
  return {
    value: [drawn],
    words: [`${isTraining ? "training" : "notebook"} ${Math.round((100 * busyMs) / (busyMs + restMs))} %`],
  };
}

function readingOf(random: Random, isPlain: boolean): Drawn<Partial<GpuReading>> {
  const driver = random.pick([
    "nvml",
    "nvml",
    "nvml",
    "nvml without shares",
    "nvidia-smi",
    "nvidia-smi",
    "dcgm",
    "counter and window",
  ] as const);
  const nvmlMs = random.pick([1000, 1000, 1000, 2000, 5000]);
  const otherMs = random.pick(
    driver === "nvidia-smi" ? [1000, 1000, 5000, 15_000] : [1000, 5000, 15_000, 30_000],
  );
  const lost = random.pick([0, 0, 0, 0.05, 0.15]);
  const lostWindows = random.pick([0, 0, 0, 0.05]);
  const isNvml = driver.startsWith("nvml");
  const everyMs = isPlain ? Math.min(5000, isNvml ? nvmlMs : otherMs) : isNvml ? nvmlMs : otherMs;
  const lostShare = isNvml && !isPlain && everyMs <= 2000 ? lost : 0;
  const kinds: Readonly<Record<typeof driver, Partial<GpuReading>>> = {
    nvml: {},
    "nvml without shares": { processShares: false },
    "nvidia-smi": smi,
    dcgm,
    "counter and window": { ...dcgm, activity: "window" },
  };
  const words = [`${driver} ${everyMs / 1000} s`, ...(lostShare > 0 ? [`${100 * lostShare} % lost`] : [])];
  return {
    value: { ...kinds[driver], everyMs, lostShare, lostWindows: isNvml && !isPlain ? lostWindows : 0 },
    words: [words.join(" ")],
  };
}

function pageOf(random: Random, pollMs: number, isPlain: boolean): Drawn<Partial<PageReading>> {
  const kind = random.next() < 0.12 ? "finish" : "step";
  const hasGauge = random.next() < 0.85;
  const said = {
    durations: random.next() < 0.5,
    phaseTimes: random.next() < 0.25,
    activeTime: random.next() < 0.1,
    ranks: random.next() < 0.6,
  };
  const late = {
    pollMs: Math.max(pollMs, random.pick([0, 0, 0, 2000, 10_000])),
    answerMs: random.pick([4, 4, 4, 100, 600, 1500, 3000]),
    refreshMs: random.pick([0, 0, 0, 0, 0, 0, 5000, 10_000, 15_000]),
    onDemand: random.next() < 0.3,
    replicas: random.pick([1, 1, 2]),
    lostPolls: random.pick([0, 0, 0, 0.1, 0.3]),
  };
  const gauge = hasGauge || kind === "finish";
  const told = Object.entries(said).flatMap(([word, isSaid]) => (isSaid && word !== "ranks" ? [word] : []));
  const words = [...(kind === "finish" ? ["finish only"] : []), ...(gauge ? [] : ["no gauge"]), ...told];
  if (isPlain) return { value: { kind, gauge, ...said }, words };
  if (late.pollMs !== pollMs) words.push(`polled ${late.pollMs / 1000} s`);
  if (late.answerMs > 4) words.push(`answers in ${late.answerMs / 1000} s`);
  if (late.refreshMs > 0)
    words.push(`copy of ${late.refreshMs / 1000} s${late.replicas > 1 ? " twice" : ""}`);
  if (late.lostPolls > 0) words.push(`${100 * late.lostPolls} % lost`);
  return { value: { kind, gauge, ...said, ...late }, words };
}
