// What a person chose on the screen, and what a key changes of it. Pure, so that every key can be tested.

/** The views, in the order of their number keys. */
export const views = ["GPUs", "servers", "tenants", "quotas", "holders", "notes", "hour"] as const;

/** One of them. */
export type ViewName = (typeof views)[number];

/** What is chosen. */
export interface ScreenState {
  readonly view: ViewName;
  /** Head of the column that rows of each view are sorted by. */
  readonly sorted: Readonly<Partial<Record<ViewName, { readonly head: string; readonly down: boolean }>>>;
  readonly filter: string;
  /** The filter is being typed. */
  readonly isTyping: boolean;
  readonly isPaused: boolean;
  readonly isHelp: boolean;
  /** Rows passed over at the top. */
  readonly offset: number;
  readonly isDone: boolean;
}

/** A key as the terminal library names it. */
export interface Key {
  readonly upArrow?: boolean;
  readonly downArrow?: boolean;
  readonly leftArrow?: boolean;
  readonly rightArrow?: boolean;
  readonly pageUp?: boolean;
  readonly pageDown?: boolean;
  readonly return?: boolean;
  readonly escape?: boolean;
  readonly backspace?: boolean;
  readonly delete?: boolean;
  readonly tab?: boolean;
  readonly shift?: boolean;
  readonly ctrl?: boolean;
}

/** Nothing chosen yet: rows by their names, quotas the fullest first. */
export const initialState: ScreenState = {
  view: "GPUs",
  sorted: { quotas: { head: "full", down: true } },
  filter: "",
  isTyping: false,
  isPaused: false,
  isHelp: false,
  offset: 0,
  isDone: false,
};

const PAGE = 10;
const FILTER_MAX = 60;

/** The state after a key; `heads` are the columns that rows of the view can be sorted by. */
export function press(state: ScreenState, input: string, key: Key, heads: readonly string[]): ScreenState {
  if (key.ctrl === true && input === "c") return { ...state, isDone: true };
  if (state.isTyping) return type(state, input, key);
  if (state.isHelp) return { ...state, isHelp: false, isDone: input === "q" };
  const steps = key.upArrow ? -1 : key.downArrow ? 1 : key.pageUp ? -PAGE : key.pageDown ? PAGE : 0;
  if (steps !== 0) return { ...state, offset: Math.max(0, state.offset + steps) };
  if (key.tab || key.leftArrow || key.rightArrow) {
    const back = key.leftArrow === true || (key.tab === true && key.shift === true);
    return turn(state, views.indexOf(state.view) + (back ? -1 : 1));
  }
  if (key.escape) return { ...state, filter: "", offset: 0 };
  return act(state, input, heads);
}

function act(state: ScreenState, input: string, heads: readonly string[]): ScreenState {
  const place = "1234567".indexOf(input);
  if (input !== "" && place >= 0) return turn(state, place);
  if (input === "q") return { ...state, isDone: true };
  if (input === "h" || input === "?") return { ...state, isHelp: true };
  if (input === "p" || input === " ") return { ...state, isPaused: !state.isPaused };
  if (input === "/") return { ...state, isTyping: true };
  if (input === "k") return { ...state, offset: Math.max(0, state.offset - 1) };
  if (input === "j") return { ...state, offset: state.offset + 1 };
  if (input === "s" || input === "S") return sort(state, heads, input === "s" ? 1 : -1);
  const chosen = state.sorted[state.view];
  if (input === "r" && chosen !== undefined)
    return { ...state, sorted: { ...state.sorted, [state.view]: { ...chosen, down: !chosen.down } } };
  return state;
}

function turn(state: ScreenState, place: number): ScreenState {
  const view = views[(place + views.length) % views.length] as ViewName;
  return { ...state, view, offset: 0 };
}

/** The next column in turn; numbers are most wanted largest first. */
function sort(state: ScreenState, heads: readonly string[], step: number): ScreenState {
  if (heads.length === 0) return state;
  const now = heads.indexOf(state.sorted[state.view]?.head ?? heads[0] ?? "");
  const head = heads[(now + step + heads.length) % heads.length] as string;
  const down = head !== heads[0];
  return { ...state, offset: 0, sorted: { ...state.sorted, [state.view]: { head, down } } };
}

function type(state: ScreenState, input: string, key: Key): ScreenState {
  if (key.return) return { ...state, isTyping: false };
  if (key.escape) return { ...state, isTyping: false, filter: "", offset: 0 };
  if (key.backspace || key.delete)
    return { ...state, filter: [...state.filter].slice(0, -1).join(""), offset: 0 };
  if (key.ctrl || input === "" || /\p{Cc}/u.test(input)) return state;
  return { ...state, filter: `${state.filter}${input}`.slice(0, FILTER_MAX), offset: 0 };
}
