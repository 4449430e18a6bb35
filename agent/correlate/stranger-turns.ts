// For how much of a metered server's execution a stranger works beside it, on a GPU whose driver does not say who worked. A
// stranger that rests half of the time while every server is idle does so beside them too, and a GPU that draws what its servers
// draw alone is theirs; by turns alone each second of a chat would be half a notebook's (METERING.md 4).
import type { EnergyRule } from "./attribution.ts";
import type { Part } from "./member.ts";
import type { Piece } from "./pieces.ts";
import { unmetered } from "./tenancy.ts";

/** What a stretch drew above the floor, and whether readings say it of no more than about a second. */
export interface Drawn {
  readonly watts: number;
  readonly isNear: boolean;
}

/** How much of a stretch a stranger works in, with standard errors: of a second of it, and of what stays however long it is. */
interface Duty {
  readonly ratio: number;
  readonly error: number;
  readonly lasting: number;
}

/** What residents draw while each of them works, W, and for how much of what each takes alone there is time with and without the stranger. */
interface Work {
  readonly watts: ReadonlyMap<string, number>;
  readonly areKnown: boolean;
  readonly beside: number;
  readonly without: number;
}

/** How far a second of work is off what it draws on average: prompts come and go; and that average off a later one. */
const [secondRatio, driftRatio] = [0.15, 0.05];
/** How far off how often a stranger works beside others is, where it works half of the time alone. */
const usualError = 0.15;

/** Returns a part whose rule shares a piece by when the stranger in it works; the same part where that is not known or not asked. */
export function besideStranger(part: Part, piece: Piece, drawn: Drawn): Part {
  const { member, residents, rule } = part;
  if (residents.hasShares || residents.areTogether || rule.byWork || !piece.works || piece.contested)
    return part;
  const working = workingBeside(piece);
  const alone = member.strangers.duty(piece.from);
  if (working === undefined || alone === undefined) return part;
  const work = workOf(part, working);
  const usual = usualDuty(alone);
  const duty = work.areKnown && drawn.isNear ? joined(usual, seenDuty(work, drawn.watts)) : usual;
  return { ...part, rule: ruleOf(rule, work, duty) };
}

/** The residents that work in a piece, a stranger among them and another that executes; undefined where it is otherwise. */
function workingBeside({ residents }: Piece): string[] | undefined {
  const working: string[] = [];
  let isBeside = false;
  for (const { server, state } of residents) {
    if (state === "parked") continue;
    working.push(server);
    isBeside ||= state === "token_active" && server !== unmetered;
  }
  return isBeside && working.includes(unmetered) ? working : undefined;
}

/** Alone each takes as much of the GPU as it keeps it busy: together as much of that as there is time for. */
function workOf({ member: { ownPower } }: Part, working: readonly string[]): Work {
  const known = ownPower.weights(working);
  const watts = new Map<string, number>();
  let areKnown = true;
  let [all, own] = [0, 0];
  for (const server of working) {
    watts.set(server, known?.get(server) ?? 1);
    const busy = ownPower.busyRatio(server);
    areKnown &&= busy !== undefined;
    all += busy ?? 1;
    if (server === unmetered) own = busy ?? 1;
  }
  return { watts, areKnown, beside: 1 / Math.max(1, all), without: 1 / Math.max(1, all - own) };
}

/** What takes turns takes longer: between as long as alone and twice of it. */
function usualDuty(alone: number): Duty {
  const ratio = (alone + (2 * alone) / (1 + alone)) / 2;
  const spread = Math.sqrt(ratio * (1 - ratio));
  return { ratio, error: spread + driftRatio, lasting: 2 * usualError * spread };
}

/** The same by what was drawn between what the others draw by themselves and what all do; undefined where that is the same. */
function seenDuty({ beside, watts, without }: Work, drawn: number): Duty | undefined {
  const own = watts.get(unmetered) ?? 0;
  let others = 0;
  for (const [server, each] of watts) if (server !== unmetered) others += each;
  const apart = beside * (others + own) - without * others;
  if (apart === 0) return undefined;
  const error = (without * others) / Math.abs(apart);
  const ratio = (drawn - without * others) / apart;
  return { ratio, error: secondRatio * error, lasting: driftRatio * error };
}

/** Both, each by the square of its error. */
function joined(usual: Duty, seen: Duty | undefined): Duty {
  if (seen === undefined) return usual;
  const weight = usual.error ** 2 / (usual.error ** 2 + seen.error ** 2);
  const of = (key: keyof Duty): number => (1 - weight) * usual[key] + weight * seen[key];
  return { ratio: Math.max(0, Math.min(1, of("ratio"))), error: of("error"), lasting: of("lasting") };
}

/** The rule with what each draws by that, and what two standard errors of it move. */
function ruleOf(rule: EnergyRule, work: Work, { lasting, ratio }: Duty): EnergyRule {
  const weights = sharesOf(work, ratio);
  const share = (duty: number): number => {
    const shares = sharesOf(work, Math.max(0, Math.min(1, duty)));
    let all = 0;
    for (const each of shares.values()) all += each;
    return all > 0 ? (shares.get(unmetered) ?? 0) / all : 0;
  };
  const isGuess = !work.areKnown && (rule.doubt !== undefined || rule.method !== "own_power");
  const moved = Math.min(1, share(ratio + lasting) - share(ratio - lasting));
  // What each draws being a guess, the rule is as much of one as it was.
  const doubtRatio = isGuess ? Math.max(moved, rule.doubtRatio ?? 1) : moved;
  return { ...rule, weights, doubt: rule.method === "equal" ? "equal_share" : "equal_watts", doubtRatio };
}

/** What each draws in a stretch in which the stranger works for some of the time. */
function sharesOf({ beside, watts, without }: Work, duty: number): Map<string, number> {
  const shares = new Map<string, number>();
  for (const [server, each] of watts) {
    const time = duty * beside + (server === unmetered ? 0 : (1 - duty) * without);
    shares.set(server, time * each);
  }
  return shares;
}
