// An engine step by step, for hours in a second: it batches up to a limit of its own or of its KV cache, works on prompts whole
// or in chunks, and its steps cost by batch and context. What comes out is what a page polled each 5 s says of each minute.
import type { Random } from "./random.ts";

/** How an engine works; times in milliseconds. */
export interface StepEngine {
  readonly stepMs: number;
  readonly requestMs: number;
  /** Requests cost nothing until their work outweighs reading the weights. */
  readonly isRoof: boolean;
  readonly contextTokenMs: number;
  readonly promptTokensPerMs: number;
  readonly hostMs: number;
  readonly batchMax: number;
  readonly cacheTokens: number;
  /** 0: prompts are worked on whole, before anything else. */
  readonly chunk: number;
}

/** What is asked: medians of log-normal lengths, and the share of a prompt that a cache has. */
export interface StepMix {
  readonly input: number;
  readonly inputSpread: number;
  readonly output: number;
  readonly outputSpread: number;
  readonly cached: number;
}

/** A minute as polls saw it, and what the engine did in it. */
export interface StepMinute {
  prompts: number;
  cached: number;
  outputs: number;
  activeMs: number;
  polls: number;
  runningSum: number;
  runningPolls: number;
  cacheSum: number;
  queuedPolls: number;
  queuedSum: number;
  queuedMost: number;
}

interface Flight {
  input: number;
  readonly cached: number;
  left: number;
  output: number;
  made: number;
}

/** When requests come and what they are; `undefined` arrivals = always more than can run. */
export interface StepLoad {
  readonly arrivals: (() => number) | undefined;
  readonly mixAt: (ms: number) => StepMix;
}

const pollMs = 5000;
const minuteMs = 60_000;

/** A drawn engine. */
export function drawEngine(random: Random): StepEngine {
  const stepMs = ratio(random, 4, 30);
  const bend = ratio(random, 20, 400);
  return {
    stepMs,
    requestMs: stepMs / bend,
    isRoof: random.next() < 0.3,
    contextTokenMs: random.next() < 0.5 ? stepMs / ratio(random, 1e5, 2e6) : 0,
    promptTokensPerMs: (ratio(random, 2, 30) * 10) / stepMs,
    hostMs: 3 * random.next(),
    batchMax: random.pick([16, 32, 64, 128, 256, 256, 512, 1024]),
    cacheTokens: ratio(random, 3e4, 1.5e6),
    chunk: random.pick([0, 512, 2048, 8192]),
  };
}

/** A drawn mix. */
export function drawMix(random: Random): StepMix {
  return {
    input: ratio(random, 50, 4000),
    inputSpread: 0.2 + 0.9 * random.next(),
    output: ratio(random, 40, 800),
    outputSpread: 0.2 + 0.7 * random.next(),
    cached: random.next() < 0.4 ? 0.1 + 0.8 * random.next() : 0,
  };
}

/** Runs an engine for `ms`. */
export function runSteps(engine: StepEngine, load: StepLoad, ms: number, random: Random): StepMinute[] {
  const [minutes, queue]: [StepMinute[], Flight[]] = [[], []];
  let running: Flight[] = [];
  let minute = emptyMinute();
  let [now, held, nextPoll, minuteEnd] = [0, 0, pollMs, minuteMs];
  let nextArrival = load.arrivals?.() ?? Number.POSITIVE_INFINITY;
  while (now < ms) {
    while (load.arrivals === undefined && queue.length < 50) queue.push(drawn(load.mixAt(now), random));
    for (; nextArrival <= now; nextArrival = load.arrivals?.() ?? Number.POSITIVE_INFINITY)
      queue.push(drawn(load.mixAt(now), random));
    held += takeUp(engine, queue, running, held);
    const works = running.length > 0;
    const took = works ? step(engine, running, minute) : Math.max(0.5, Math.min(nextArrival, nextPoll) - now);
    if (works) minute.activeMs += took;
    const ended = running.filter((one) => one.made >= one.output);
    running = running.filter((one) => one.made < one.output);
    held = running.reduce((sum, one) => sum + one.input + one.made, 0);
    if (ended.length === 0) held -= putBack(engine, queue, running, held);
    now += took;
    for (; nextPoll <= now; nextPoll += pollMs)
      poll(minute, running.length, queue.length, held / engine.cacheTokens);
    for (; minuteEnd <= now; minuteEnd += minuteMs) {
      minutes.push(minute);
      minute = emptyMinute();
    }
  }
  return minutes;
}

function emptyMinute(): StepMinute {
  return {
    ...{ prompts: 0, cached: 0, outputs: 0, activeMs: 0, polls: 0, runningSum: 0, runningPolls: 0 },
    ...{ cacheSum: 0, queuedPolls: 0, queuedSum: 0, queuedMost: 0 },
  };
}

function drawn({ cached, input, inputSpread, output, outputSpread }: StepMix, random: Random): Flight {
  const length = (median: number, spread: number): number =>
    Math.max(1, Math.min(60_000, Math.round(median * Math.exp(spread * random.normal()))));
  const tokens = length(input, inputSpread);
  const hit = Math.min(tokens - 1, Math.floor(tokens * Math.min(1, cached * (0.5 + random.next()))));
  return { input: tokens, cached: hit, left: tokens - hit, output: length(output, outputSpread), made: 0 };
}

/** Evenly by its logarithm. */
function ratio(random: Random, low: number, high: number): number {
  return low * (high / low) ** random.next();
}

/** Takes requests up while there is room; returns the tokens they hold. */
function takeUp(engine: StepEngine, queue: Flight[], running: Flight[], held: number): number {
  let more = 0;
  while (queue.length > 0 && running.length < engine.batchMax) {
    const [first] = queue as [Flight];
    if (running.length > 0 && held + more + first.input >= engine.cacheTokens) break;
    more += first.input;
    running.push(first);
    queue.shift();
  }
  return more;
}

/** Where the cache is full the newest start again later; returns the tokens they held. */
function putBack(engine: StepEngine, queue: Flight[], running: Flight[], held: number): number {
  let less = 0;
  while (held - less > engine.cacheTokens && running.length > 1) {
    const last = running.pop() as Flight;
    less += last.input + last.made;
    last.input += last.made;
    last.output = Math.max(1, last.output - last.made);
    last.made = 0;
    last.left = last.input;
    queue.unshift(last);
  }
  return less;
}

/** One step; returns how long it takes. */
function step(engine: StepEngine, running: readonly Flight[], minute: StepMinute): number {
  let room = engine.chunk === 0 ? 8192 : engine.chunk;
  let prompts = 0;
  const fresh = new Set<Flight>();
  for (const one of running) {
    if (one.left <= 0 || room <= 0) continue;
    const part = Math.min(room, one.left);
    one.left -= part;
    room -= part;
    prompts += part;
    if (one.left > 0) continue;
    fresh.add(one);
    minute.prompts += one.input - one.cached;
    minute.cached += one.cached;
  }
  const decoding =
    prompts === 0 || engine.chunk > 0 ? running.filter((one) => one.left === 0 && !fresh.has(one)) : [];
  const context = decoding.reduce((sum, one) => sum + one.input + one.made, 0);
  for (const one of [...fresh, ...decoding]) {
    one.made++;
    minute.outputs++;
  }
  const { contextTokenMs, hostMs, isRoof, promptTokensPerMs, requestMs, stepMs } = engine;
  const batch = decoding.length * requestMs;
  const decode = (isRoof ? Math.max(stepMs, 2 * batch) : stepMs + batch) + contextTokenMs * context;
  return prompts / promptTokensPerMs + (decoding.length > 0 ? decode : 1) + hostMs;
}

function poll(minute: StepMinute, running: number, waiting: number, cacheRatio: number): void {
  minute.polls++;
  if (running > 0) {
    minute.runningSum += running;
    minute.runningPolls++;
    minute.cacheSum += Math.min(1, cacheRatio);
  }
  if (waiting === 0) return;
  minute.queuedPolls++;
  minute.queuedSum += running;
  minute.queuedMost = Math.max(minute.queuedMost, running);
}
