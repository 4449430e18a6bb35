// A host in milliseconds: engines that batch, prefill and decode, jobs without tokens, and GPUs they take turns on.
// What comes out is the whole truth, a value per millisecond; meters.ts then shows it the way drivers and pages do.

/** A request on its way through an engine. */
export interface Request {
  /** Arrival, ms. */
  readonly at: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Rank it is sent to. */
  readonly rank?: number;
}

/** One scheduler: a whole engine, a data-parallel rank, or the prefill or decode half of a disaggregated one. */
export interface Rank {
  readonly gpus: readonly number[];
  readonly role: "combined" | "prefill" | "decode";
  readonly pids: readonly number[];
}

/** How fast and how hungry an engine is. */
export interface Engine {
  readonly id: string;
  readonly ranks: readonly Rank[];
  /** From when to when its processes hold the GPU, ms; to the end where nothing is said. */
  readonly from: number;
  readonly to?: number;
  readonly batchMax: number;
  /** Prompt tokens per millisecond of GPU time, and the most of them in one step. */
  readonly prefillPerMs: number;
  readonly prefillChunk: number;
  /** GPU time of a decode step, and what each request of the batch adds, ms. */
  readonly stepMs: number;
  readonly stepPerRequestMs: number;
  /** Time on the host after a step in which the GPU has nothing of it, ms. */
  readonly hostMs: number;
  /** Power above the floor while a kernel of it runs. */
  readonly prefillWatts: number;
  readonly decodeWatts: number;
  /** Ranks step together (expert parallelism): one without a request steps along while another has some. */
  readonly lockstep?: boolean;
  /** Its GPU runs at this share of its speed, and draws that share of the watts, between two instants, ms. */
  readonly throttle?: { readonly from: number; readonly to: number; readonly ratio: number };
  /** A decode step makes up to so many tokens of a request, for it guesses ahead; 1 where it does not. */
  readonly tokensPerStepMax?: number;
  readonly requests: readonly Request[];
}

/** Work without tokens: training, a notebook. */
export interface Job {
  readonly pid: number;
  readonly gpu: number;
  readonly from: number;
  readonly to: number;
  /** Works for `busyMs`, rests for `restMs`, again and again, between `workFrom` and `workTo`. */
  readonly busyMs: number;
  readonly restMs: number;
  readonly workFrom: number;
  readonly workTo: number;
  readonly watts: number;
}

export interface Host {
  readonly milliseconds: number;
  readonly gpus: readonly { readonly floorWatts: number; readonly freeWatts: number }[];
  readonly engines: readonly Engine[];
  readonly jobs: readonly Job[];
}

/** Cumulative counters of an engine at one millisecond. */
export interface Counters {
  readonly at: number;
  readonly input: number;
  readonly output: number;
  readonly finished: number;
  readonly finishedInput: number;
  readonly finishedOutput: number;
  readonly durationSeconds: number;
  readonly firstTokens: number;
  readonly firstTokenSeconds: number;
  /** Of requests that ended: until they were taken up, from there to the first token, and from there to the last. */
  readonly queueSeconds: number;
  readonly prefillSeconds: number;
  readonly decodeSeconds: number;
  /** GPU time of the steps so far, by phase. */
  readonly prefillStepMs: number;
  readonly decodeStepMs: number;
  readonly activeMs: number;
}

/** What an engine did. */
export interface EngineTruth {
  readonly id: string;
  /** 1 while a request is in execution on any rank, per ms; and per rank. */
  readonly active: Uint8Array;
  readonly rankActive: readonly Uint8Array[];
  readonly running: readonly Uint16Array[];
  readonly waiting: Uint16Array;
  /** One entry whenever a counter moved. */
  readonly counters: readonly Counters[];
  /** The same of each rank alone; its busy time is that of the rank. */
  readonly rankCounters: readonly (readonly Counters[])[];
  /** Joules above the floor its kernels cost, by phase, and GPU-ms by phase. */
  readonly joules: { prefill: number; decode: number };
  readonly gpuMs: { prefill: number; decode: number };
  /** GPU-milliseconds in execution by phase, steps on the host included. */
  readonly activeMs: { prefill: number; decode: number };
}

/** What a GPU did. */
export interface GpuTruth {
  /** Busy share of each ms, and watts above the floor. */
  readonly busy: Float32Array;
  readonly watts: Float32Array;
  /** Index of the process that ran in each ms + 1, 0 for none. */
  readonly ran: Uint8Array;
  readonly pids: readonly number[];
}

interface Flight {
  readonly request: Request;
  left: number;
  out: number;
  takenUpAt: number | undefined;
  firstAt: number;
}

interface Step {
  gpuLeft: number;
  hostLeft: number;
  readonly phase: "prefill" | "decode";
  readonly batch: readonly Flight[];
  /** Prompt tokens of each request of a prefill done with this step. */
  readonly tokens: readonly number[];
}

interface Lane {
  readonly engine: number;
  readonly rank: number;
  readonly pids: readonly number[];
  readonly gpus: readonly number[];
  readonly queue: Flight[];
  running: Flight[];
  step: Step | undefined;
  /** It was in a step in this ms, be it for a part of it. */
  worked: boolean;
  /** The same for requests of its own: what a rank's busy time counts. */
  executed: boolean;
}

/** Who runs on a GPU and for how long yet; lanes and jobs that may. */
interface Turn {
  owner: number;
  left: number;
  readonly lanesOn: readonly number[];
  readonly jobsOn: readonly number[];
}

/** Longest turn of a process on a shared GPU, ms. */
const turnMs = 2;

/** Runs the host to its end. */
export function simulate(host: Host): { engines: EngineTruth[]; gpus: GpuTruth[] } {
  const length = host.milliseconds;
  const engines = host.engines.map((engine) => emptyTruth(engine, length));
  const gpus = host.gpus.map((_, index) => ({
    busy: new Float32Array(length),
    watts: new Float32Array(length),
    ran: new Uint8Array(length),
    pids: pidsOn(host, index),
  }));
  const lanes = host.engines.flatMap((engine, index) =>
    engine.ranks.map(
      (rank, at): Lane => ({
        engine: index,
        rank: at,
        pids: rank.pids,
        gpus: rank.gpus,
        queue: [],
        running: [],
        step: undefined,
        worked: false,
        executed: false,
      }),
    ),
  );
  const next = host.engines.map(() => 0);
  const totals = lanes.map(() => ({ ...zero }));
  /** Tokens of each lane before this ms. */
  const before = lanes.map(() => 0);
  const activeMs: number[] = [];
  const turns = host.gpus.map((_, gpu): Turn => {
    const lanesOn = lanes.flatMap((lane, index) => (lane.gpus.includes(gpu) ? [index] : []));
    const jobsOn = host.jobs.flatMap((job, index) => (job.gpu === gpu ? [index] : []));
    return { owner: -1, left: 0, lanesOn, jobsOn };
  });
  for (let now = 0; now < length; now++) {
    host.engines.forEach((engine, index) => {
      let place = next[index] as number;
      while ((engine.requests[place]?.at ?? Infinity) <= now)
        arrive(lanes, engine, index, engine.requests[place++] as Request);
      next[index] = place;
    });
    for (const [index, { input, output }] of totals.entries()) before[index] = input + output;
    const wanting = lanes.map((lane) => wants(lane, host.engines[lane.engine] as Engine, lanes, now));
    const granted = grant(host, lanes, wanting, turns, now);
    lanes.forEach((lane, index) => {
      const engine = host.engines[lane.engine] as Engine;
      const truth = engines[lane.engine] as EngineTruth;
      advance(lane, engine, granted[index] === true, truth, gpus, now);
      if (lane.step !== undefined && lane.step.gpuLeft <= 0 && lane.step.hostLeft <= 0)
        complete(lane, engine, totals[index] as Total, now, (flight) =>
          handOver(lanes, lane, engine, flight),
        );
    });
    runJobs(host, gpus, turns, now);
    note(lanes, engines, totals, before, activeMs, now);
  }
  return { engines, gpus };
}

type Total = { -readonly [Key in keyof Omit<Counters, "at">]: number };
const zero: Total = {
  input: 0,
  output: 0,
  finished: 0,
  finishedInput: 0,
  finishedOutput: 0,
  durationSeconds: 0,
  firstTokens: 0,
  firstTokenSeconds: 0,
  queueSeconds: 0,
  prefillSeconds: 0,
  decodeSeconds: 0,
  prefillStepMs: 0,
  decodeStepMs: 0,
  activeMs: 0,
};

const keys = Object.keys(zero) as (keyof Total)[];

function emptyTruth(engine: Engine, length: number): EngineTruth {
  return {
    id: engine.id,
    active: new Uint8Array(length),
    rankActive: engine.ranks.map(() => new Uint8Array(length)),
    running: engine.ranks.map(() => new Uint16Array(length)),
    waiting: new Uint16Array(length),
    counters: [{ at: 0, ...zero }],
    rankCounters: engine.ranks.map(() => [{ at: 0, ...zero }]),
    joules: { prefill: 0, decode: 0 },
    gpuMs: { prefill: 0, decode: 0 },
    activeMs: { prefill: 0, decode: 0 },
  };
}

function pidsOn(host: Host, gpu: number): number[] {
  const engines = host.engines.flatMap(({ ranks }) =>
    ranks.flatMap((rank) =>
      rank.gpus.flatMap((on, index) => (on === gpu ? [rank.pids[index] as number] : [])),
    ),
  );
  return [...engines, ...host.jobs.filter((job) => job.gpu === gpu).map(({ pid }) => pid)];
}

function arrive(lanes: readonly Lane[], engine: Engine, index: number, request: Request): void {
  const own = lanes.filter((lane) => lane.engine === index && engine.ranks[lane.rank]?.role !== "decode");
  const lane = own[(request.rank ?? 0) % own.length] as Lane;
  lane.queue.push({ request, left: request.inputTokens, out: 0, takenUpAt: undefined, firstAt: 0 });
}

/** A prefill half hands the request to the decode half. */
function handOver(lanes: readonly Lane[], from: Lane, engine: Engine, flight: Flight): void {
  const to = lanes.find((lane) => lane.engine === from.engine && engine.ranks[lane.rank]?.role === "decode");
  if (to === undefined) throw new Error(`engine ${engine.id} has a prefill rank and no decode rank`);
  to.queue.push(flight);
}

/** Begins the next step where one is due; true when the lane wants the GPU in this ms. */
function wants(lane: Lane, engine: Engine, lanes: readonly Lane[], now: number): boolean {
  if (lane.step === undefined) {
    lane.step = nextStep(lane, engine);
    for (const flight of lane.step?.batch ?? []) flight.takenUpAt ??= now;
  }
  const isLed = (): boolean =>
    lanes.some(({ engine: of, step }) => of === lane.engine && (step?.batch.length ?? 0) > 0);
  if (lane.step === undefined && engine.lockstep === true && isLed())
    lane.step = { gpuLeft: engine.stepMs, hostLeft: engine.hostMs, phase: "decode", batch: [], tokens: [] };
  return lane.step !== undefined && lane.step.gpuLeft > 0;
}

function nextStep(lane: Lane, engine: Engine): Step | undefined {
  const decode = engine.ranks[lane.rank]?.role === "decode";
  if (decode) {
    while (lane.queue.length > 0 && lane.running.length < engine.batchMax)
      lane.running.push(lane.queue.shift() as Flight);
  } else if (lane.queue.length > 0 && lane.running.length < engine.batchMax) {
    const batch: Flight[] = [];
    const tokens: number[] = [];
    let room = engine.prefillChunk;
    for (const flight of lane.queue) {
      if (room <= 0 || lane.running.length + batch.length >= engine.batchMax) break;
      const part = Math.min(room, flight.left);
      batch.push(flight);
      tokens.push(part);
      room -= part;
    }
    const all = tokens.reduce((sum, part) => sum + part, 0);
    return {
      gpuLeft: 1 + all / engine.prefillPerMs,
      hostLeft: engine.hostMs,
      phase: "prefill",
      batch,
      tokens,
    };
  }
  if (lane.running.length === 0) return undefined;
  const gpuLeft = engine.stepMs + engine.stepPerRequestMs * lane.running.length;
  return { gpuLeft, hostLeft: engine.hostMs, phase: "decode", batch: [...lane.running], tokens: [] };
}

/** Who runs in this ms: a lane runs when it has the turn on all of its GPUs. */
function grant(
  host: Host,
  lanes: readonly Lane[],
  wanting: readonly boolean[],
  turns: readonly Turn[],
  now: number,
): boolean[] {
  for (const turn of turns) {
    // By number, lanes before jobs: the owner while its turn lasts, or else the next after it, or else the first.
    let [first, later, stays] = [-1, -1, false];
    const offer = (candidate: number): void => {
      if (first < 0) first = candidate;
      if (later < 0 && candidate > turn.owner) later = candidate;
      if (candidate === turn.owner) stays = true;
    };
    for (const index of turn.lanesOn) if (wanting[index]) offer(index);
    for (const index of turn.jobsOn) if (jobWorks(host.jobs[index] as Job, now)) offer(lanes.length + index);
    if (first < 0) {
      turn.owner = -1;
      turn.left = 0;
    } else if (turn.left <= 0 || !stays) {
      turn.owner = later >= 0 ? later : first;
      turn.left = turnMs;
    }
    turn.left--;
  }
  return lanes.map((lane, index) => lane.gpus.every((gpu) => turns[gpu]?.owner === index));
}

function jobWorks(job: Job, now: number): boolean {
  if (now < job.workFrom || now >= job.workTo) return false;
  return (now - job.workFrom) % (job.busyMs + job.restMs) < job.busyMs;
}

/** Speed of an engine's GPU over the usual. */
function speedAt({ throttle }: Engine, now: number): number {
  return throttle !== undefined && now >= throttle.from && now < throttle.to ? throttle.ratio : 1;
}

function advance(
  lane: Lane,
  engine: Engine,
  granted: boolean,
  truth: EngineTruth,
  gpus: readonly GpuTruth[],
  now: number,
): void {
  const { step } = lane;
  lane.worked = step !== undefined;
  lane.executed = (step?.batch.length ?? 0) > 0;
  if (step === undefined) return;
  truth.activeMs[step.phase] += lane.gpus.length;
  if (step.gpuLeft > 0) {
    if (!granted) return;
    const speed = speedAt(engine, now);
    const used = Math.min(1, step.gpuLeft / speed);
    step.gpuLeft -= used * speed;
    const watts = speed * (step.phase === "prefill" ? engine.prefillWatts : engine.decodeWatts);
    lane.gpus.forEach((gpu, index) => {
      const at = gpus[gpu] as GpuTruth;
      at.busy[now] = Math.min(1, (at.busy[now] as number) + used);
      at.watts[now] = (at.watts[now] as number) + used * watts;
      at.ran[now] = at.pids.indexOf(lane.pids[index] as number) + 1;
      truth.joules[step.phase] += (used * watts) / 1000;
      truth.gpuMs[step.phase] += used;
    });
  } else step.hostLeft--;
}

function complete(
  lane: Lane,
  engine: Engine,
  total: Total,
  now: number,
  handOn: (flight: Flight) => void,
): void {
  const step = lane.step as Step;
  lane.step = undefined;
  if (step.phase === "prefill") {
    step.batch.forEach((flight, index) => {
      flight.left -= step.tokens[index] as number;
      if (flight.left > 0) return;
      // A prompt counts when it is complete, as in vLLM.
      total.input += flight.request.inputTokens;
      lane.queue.splice(lane.queue.indexOf(flight), 1);
      emit(lane, engine, flight, total, now, handOn);
    });
    return;
  }
  for (const flight of step.batch) {
    // How many guesses are right changes from step to step.
    let tokens = 1 + ((flight.out * 7 + flight.request.at) % (engine.tokensPerStepMax ?? 1));
    while (tokens-- > 0 && flight.out < flight.request.outputTokens)
      emit(lane, engine, flight, total, now, handOn);
  }
}

/** One more token of a request; the last one ends it. */
function emit(
  lane: Lane,
  engine: Engine,
  flight: Flight,
  total: Total,
  now: number,
  handOn: (flight: Flight) => void,
): void {
  flight.out++;
  if (flight.out === 1) {
    flight.firstAt = now + 1;
    total.firstTokens++;
    total.firstTokenSeconds += (now + 1 - flight.request.at) / 1000;
  }
  total.output++;
  const at = lane.running.indexOf(flight);
  if (flight.out >= flight.request.outputTokens) {
    if (at >= 0) lane.running.splice(at, 1);
    total.finished++;
    total.finishedInput += flight.request.inputTokens;
    total.finishedOutput += flight.request.outputTokens;
    total.durationSeconds += (now + 1 - flight.request.at) / 1000;
    const takenUpAt = flight.takenUpAt ?? now;
    total.queueSeconds += (takenUpAt - flight.request.at) / 1000;
    total.prefillSeconds += (flight.firstAt - takenUpAt) / 1000;
    total.decodeSeconds += (now + 1 - flight.firstAt) / 1000;
  } else if (engine.ranks[lane.rank]?.role === "prefill") handOn(flight);
  else if (at < 0) lane.running.push(flight);
}

function runJobs(host: Host, gpus: readonly GpuTruth[], turns: readonly Turn[], now: number): void {
  const lanes = host.engines.reduce((sum, { ranks }) => sum + ranks.length, 0);
  host.jobs.forEach((job, index) => {
    if (turns[job.gpu]?.owner !== lanes + index) return;
    const at = gpus[job.gpu] as GpuTruth;
    at.busy[now] = 1;
    at.watts[now] = job.watts;
    at.ran[now] = at.pids.indexOf(job.pid) + 1;
  });
}

function note(
  lanes: readonly Lane[],
  engines: readonly EngineTruth[],
  totals: readonly Total[],
  before: readonly number[],
  activeMs: number[],
  now: number,
): void {
  for (const lane of lanes) {
    const truth = engines[lane.engine] as EngineTruth;
    // A prompt stays in the queue until it is done; a decode step is of requests that run.
    const prompts = lane.step?.phase === "prefill" ? lane.step.batch.length : 0;
    const started = lane.running.length + prompts;
    if (started > 0 || lane.worked) {
      truth.active[now] = 1;
      (truth.rankActive[lane.rank] as Uint8Array)[now] = 1;
    }
    lane.executed ||= started > 0;
    (truth.running[lane.rank] as Uint16Array)[now] = started;
    truth.waiting[now] = (truth.waiting[now] as number) + lane.queue.length - prompts;
  }
  const moved: number[] = [];
  lanes.forEach((lane, index) => {
    const total = totals[index] as Total;
    total.activeMs += lane.executed ? 1 : 0;
    if (total.output + total.input === before[index]) return;
    moved.push(lane.engine);
    const truth = engines[lane.engine] as EngineTruth;
    (truth.rankCounters[lane.rank] as Counters[]).push({ at: now + 1, ...total });
  });
  engines.forEach((truth, index) => {
    activeMs[index] = (activeMs[index] ?? 0) + (truth.active[now] as number);
    if (!moved.includes(index)) return;
    const own = lanes.flatMap((lane, at) => (lane.engine === index ? [totals[at] as Total] : []));
    (truth.counters as Counters[]).push({
      ...{ at: now + 1, ...summed(own), activeMs: activeMs[index] as number },
      ...{ prefillStepMs: truth.gpuMs.prefill, decodeStepMs: truth.gpuMs.decode },
    });
  });
}

function summed(totals: readonly Total[]): Total {
  const all = { ...zero };
  for (const total of totals) for (const key of keys) all[key] += total[key];
  return all;
}
