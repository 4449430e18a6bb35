// bases.ts by law, against servers whose true tokens are known: nothing is ever booked that was not made, nothing is lost
// where the page lets it be known, and what may have been lost is said.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Damage, Identity } from "./page-oracle.ts";
import { Agent, Process, pageOf } from "./page-oracle.ts";

const USERS = ["a", "b", "c", "d"] as const;

type Step =
  | { readonly kind: "make"; readonly process: number; readonly user: string; readonly tokens: number }
  | { readonly kind: "look"; readonly process: number; readonly damage: Damage }
  | { readonly kind: "fail" }
  | { readonly kind: "restart"; readonly process: number }
  | { readonly kind: "evict"; readonly process: number; readonly user: string }
  | { readonly kind: "agent"; readonly older: boolean };

const user = fc.constantFrom(...USERS);
const process = fc.nat(2);
const made = fc.record({
  kind: fc.constant("make" as const),
  process,
  user,
  tokens: fc.integer({ min: 1, max: 5000 }),
});
const damage: fc.Arbitrary<Damage> = fc.oneof(
  { weight: 5, arbitrary: fc.constant({}) },
  fc.record({ cut: fc.integer({ min: 1, max: 9 }) }),
  fc.record({ nan: user }),
  fc.record({ negative: user }),
  fc.record({ renewed: fc.constant(true) }),
);
const look = fc.record({ kind: fc.constant("look" as const), process, damage });
const lessLook = fc.record({
  kind: fc.constant("look" as const),
  process,
  damage: fc.record({ less: user }),
});
const fail = fc.record({ kind: fc.constant("fail" as const) });
const restart = fc.record({ kind: fc.constant("restart" as const), process });
const evict = fc.record({ kind: fc.constant("evict" as const), process, user });
const agent = fc.record({ kind: fc.constant("agent" as const), older: fc.boolean() });

interface World {
  readonly identity: Identity;
  readonly bornAtZero: boolean;
  readonly processes: number;
  /** Whether all series of a process are there from its begin, as fixed label sets are. */
  readonly fixed: boolean;
  /** Series that are remembered at most. */
  readonly seriesMax?: number;
  /** What happens to the first page. */
  readonly first?: Damage;
  /** The order in which processes are first looked at. */
  readonly order?: readonly number[];
}

interface Outcome {
  readonly agent: Agent;
  /** All that was made since the first look. */
  readonly made: number;
  /** Of it, what some page of its process could still show after it. */
  readonly shown: number;
}

/** Runs the steps, and at the end shows every process's page as often as it takes to be believed. */
function run(world: World, steps: readonly Step[], onLook?: (agent: Agent, made: number) => void): Outcome {
  const agent = new Agent(world);
  const began = (): Process => {
    const made = new Process(agent.unix);
    if (world.fixed) for (const name of USERS) made.make(name, 0, agent.unix);
    return made;
  };
  const processes = Array.from({ length: world.processes }, (_, number) => {
    const old = new Process(agent.unix - 5000 - number);
    for (const [place, name] of USERS.entries())
      old.make(name, 400_000 * (number + 1) + 1000 * place, agent.unix - 4000 - 100 * number + place);
    return old;
  });
  let [all, lost] = [0, 0];
  const see = (one: Process, how: Damage): void => {
    agent.look(pageOf(one, world.identity, how), how);
    onLook?.(agent, all);
  };
  const dies = (unseen: number): void => {
    lost += unseen;
  };
  // The first looks: every process is older than the agent. Without a name they are told apart by taking turns.
  for (let round = 0; round < (world.identity === "none" ? 4 : 1); round++) {
    for (const place of world.order ?? processes.keys()) {
      see(processes[place] as Process, world.first ?? {});
      agent.now += 5;
    }
  }
  for (const one of processes) for (const series of one.series.values()) series.unseen = 0;
  const shownBy = (one: Process, how: Damage): void => {
    if ([how.cut, how.nan, how.negative, how.less].some((one) => one !== undefined)) return;
    for (const series of one.series.values()) if (!series.gone) series.unseen = 0;
  };
  for (const step of steps) {
    agent.now += 5;
    const place = "process" in step ? step.process % world.processes : 0;
    const one = processes[place] as Process;
    if (step.kind === "make") {
      one.make(step.user, step.tokens, agent.unix);
      all += step.tokens;
    } else if (step.kind === "look") {
      see(one, step.damage);
      shownBy(one, step.damage);
    } else if (step.kind === "fail") agent.fail();
    else if (step.kind === "agent") agent.restart(step.older);
    else if (step.kind === "evict") {
      const series = one.series.get(step.user);
      if (series === undefined || series.gone) continue;
      dies(series.unseen);
      one.evict(step.user);
      // Seen gone before it comes back: what outran its old value within one look cannot be told from it.
      agent.now += 5;
      see(one, {});
      shownBy(one, {});
    } else {
      for (const { gone, unseen } of one.series.values()) if (!gone) dies(unseen);
      processes[place] = began();
      agent.fail();
    }
  }
  for (let again = 0; again < 5; again++) {
    for (const one of processes) {
      agent.now += 5;
      see(one, {});
    }
  }
  return { agent, made: all, shown: all - lost };
}

const steps = (...kinds: fc.Arbitrary<Step>[]): fc.Arbitrary<Step[]> =>
  fc.array(fc.oneof({ weight: 6, arbitrary: made }, { weight: 6, arbitrary: look }, ...kinds), {
    maxLength: 60,
  });

describe("pages of one process that names its start", () => {
  const world = { identity: "start", bornAtZero: true, processes: 1, fixed: false } as const;

  test("are counted exactly, whatever is lost on the way: series, values, pages, looks, agents, processes", () => {
    fc.assert(
      fc.property(steps(fail, restart, agent), (all) => {
        const { agent, shown, made } = run(world, all, (one, most) =>
          expect(one.booked).toBeLessThanOrEqual(most),
        );
        expect(agent.booked).toBeGreaterThanOrEqual(shown);
        expect(agent.booked).toBeLessThanOrEqual(made);
      }),
    );
  });

  test("book nothing of a series that could not be read at first, nor of one that a cut page hid from a full table", () => {
    const first = fc.record({ negative: user, seriesMax: fc.constantFrom(6, 1000) });
    fc.assert(
      fc.property(steps(fail, agent, evict), first, (all, { negative, seriesMax }) => {
        run({ ...world, first: { negative }, seriesMax }, all, (one, most) =>
          expect(one.booked).toBeLessThanOrEqual(most),
        );
      }),
    );
  });

  test("are counted exactly where series are evicted and begin again", () => {
    fc.assert(
      fc.property(steps(fail, agent, evict), (all) => {
        const { agent, shown, made } = run(world, all, (one, most) =>
          expect(one.booked).toBeLessThanOrEqual(most),
        );
        expect(agent.booked).toBeLessThanOrEqual(made);
        expect(agent.booked).toBeGreaterThanOrEqual(shown);
      }),
    );
  });
});

describe("pages whose series name their begin", () => {
  test("are counted exactly over restarts of the process and the agent", () => {
    const world = { identity: "created", bornAtZero: false, processes: 1, fixed: false } as const;
    fc.assert(
      fc.property(steps(fail, restart, agent), (all) => {
        const { agent, shown, made } = run(world, all, (one, most) =>
          expect(one.booked).toBeLessThanOrEqual(most),
        );
        expect(agent.booked).toBeGreaterThanOrEqual(shown);
        expect(agent.booked).toBeLessThanOrEqual(made);
      }),
    );
  });
});

describe("pages of several processes behind one address", () => {
  test.each(["start", "created"] as const)("known by %s are counted each from its own base", (identity) => {
    const world = { identity, bornAtZero: false, processes: 3, fixed: true } as const;
    fc.assert(
      fc.property(steps(fail, agent), (all) => {
        const { agent, made } = run(world, all, (one, most) => expect(one.booked).toBeLessThanOrEqual(most));
        expect(agent.booked).toBe(made);
        expect(agent.notes.some(({ kind }) => kind === "several")).toBe(true);
      }),
    );
  });

  test.each(["start", "created"] as const)(
    "known by %s lose nothing that was shown when some begin again",
    (identity) => {
      const world = { identity, bornAtZero: false, processes: 3, fixed: true } as const;
      fc.assert(
        fc.property(steps(fail, agent, restart), (all) => {
          const { agent, made, shown } = run(world, all, (one, most) =>
            expect(one.booked).toBeLessThanOrEqual(most),
          );
          expect(agent.booked).toBeGreaterThanOrEqual(shown);
          expect(agent.booked).toBeLessThanOrEqual(made);
        }),
      );
    },
  );
});

describe("pages of more processes than are remembered", () => {
  test("book nothing that was not made, and say so", () => {
    const world = { identity: "start", bornAtZero: false, processes: 20, fixed: true } as const;
    const some = fc.array(
      fc.oneof(
        fc.record({ kind: fc.constant("make" as const), process: fc.nat(19), user, tokens: fc.nat(5000) }),
        fc.record({ kind: fc.constant("look" as const), process: fc.nat(19), damage: fc.constant({}) }),
        fc.record({ kind: fc.constant("restart" as const), process: fc.nat(19) }),
      ),
      { maxLength: 80 },
    );
    fc.assert(
      fc.property(some, (all) => {
        const { agent, made } = run(world, all, (one, most) => expect(one.booked).toBeLessThanOrEqual(most));
        expect(agent.booked).toBeLessThanOrEqual(made);
        expect(agent.notes.some(({ kind }) => kind === "several")).toBe(true);
      }),
    );
  });
});

describe("pages of more series than are remembered", () => {
  test("book nothing that was not made where customers come and go, and say so", () => {
    const customer = fc.integer({ min: 1, max: 40 }).map((number) => `customer-${number}`);
    const churn = fc.array(
      fc.oneof(
        {
          weight: 5,
          arbitrary: fc.record({
            kind: fc.constant("make" as const),
            process,
            user: customer,
            tokens: fc.nat(5000),
          }),
        },
        { weight: 5, arbitrary: look },
        { weight: 4, arbitrary: fc.record({ kind: fc.constant("evict" as const), process, user: customer }) },
        agent,
        restart,
      ),
      { maxLength: 150 },
    );
    fc.assert(
      fc.property(churn, fc.integer({ min: 1, max: 3 }), (all, processes) => {
        const world = {
          identity: "start",
          bornAtZero: true,
          processes,
          fixed: false,
          seriesMax: 20,
        } as const;
        const { agent, made, shown } = run(world, all, (one, most) =>
          expect(one.booked).toBeLessThanOrEqual(most),
        );
        expect(agent.booked).toBeLessThanOrEqual(made);
        if (agent.booked < shown) expect(agent.notes.length).toBeGreaterThan(0);
      }),
    );
  });
});

describe("pages that name no begin", () => {
  const world = { identity: "none", bornAtZero: false, processes: 1, fixed: true } as const;

  test("are counted exactly while the process lives, whatever falls, goes or is cut", () => {
    fc.assert(
      fc.property(steps(fail, agent, lessLook), (all) => {
        const { agent, made } = run(world, all, (one, most) => expect(one.booked).toBeLessThanOrEqual(most));
        expect(agent.booked).toBe(made);
      }),
    );
  });

  test("count a restart after a failed look whole, and never more than was made", () => {
    fc.assert(
      fc.property(steps(fail, agent, restart), (all) => {
        const { agent, made, shown } = run(world, all, (one, most) =>
          expect(one.booked).toBeLessThanOrEqual(most),
        );
        if (agent.booked < shown) expect(agent.notes.length).toBeGreaterThan(0);
        expect(agent.booked).toBeLessThanOrEqual(made);
      }),
    );
  });

  test("lose no token of a restart that a failed look and two further pages show", () => {
    // A life begins with less than the one before ended with: else nothing fell.
    const more = fc.array(fc.integer({ min: 1000, max: 9000 }), { minLength: 1, maxLength: 5 });
    const life = fc.tuple(fc.integer({ min: 1, max: 100 }), more).map(([first, rest]) => [first, ...rest]);
    const lives = fc.array(life, { maxLength: 5 });
    fc.assert(
      fc.property(lives, fc.boolean(), (all, agents) => {
        const looks = Array.from({ length: 3 }, (): Step => ({ kind: "look", process: 0, damage: {} }));
        const steps = all.flatMap((life): Step[] => [
          { kind: "restart", process: 0 },
          ...(agents ? [{ kind: "agent", older: false } as const] : []),
          ...life.flatMap((tokens): Step[] => [{ kind: "make", process: 0, user: "a", tokens }, ...looks]),
        ]);
        const { agent, made } = run(world, steps);
        expect(agent.booked).toBe(made);
        expect(agent.resets).toBe(all.length);
      }),
    );
  });

  test("of several processes book nothing that was not made, and say so", () => {
    const several = { ...world, processes: 3 } as const;
    fc.assert(
      fc.property(
        steps(fail, agent, restart, evict),
        fc.shuffledSubarray([0, 1, 2], { minLength: 3 }),
        (all, order) => {
          const { agent, made } = run({ ...several, order }, all);
          expect(agent.booked).toBeLessThanOrEqual(made);
          if (agent.booked !== made) expect(agent.notes.length).toBeGreaterThan(0);
        },
      ),
    );
  });
});
