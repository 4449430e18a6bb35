// Input that a page names by other kinds than before. A server that splits its input from some page on (LiteLLM, llm-d: with
// the first cached token) then shows by two kinds what it showed by one: the same tokens, which must not count again.
import type { TokenKind, TokenReading } from "../../model.ts";

const NONE: readonly TokenKind[] = [];
const SPLIT: readonly TokenKind[] = ["input_uncached", "input_cached"];
const UNSPLIT: readonly TokenKind[] = ["input_unsplit"];

/** Kinds whose tokens are among those of another kind in this reading; none where it has both sorts, or no input. */
export function otherInput(tokens: TokenReading["tokens"]): readonly TokenKind[] {
  const split = tokens.input_uncached !== undefined || tokens.input_cached !== undefined;
  if (split === (tokens.input_unsplit !== undefined)) return NONE;
  return split ? UNSPLIT : SPLIT;
}
