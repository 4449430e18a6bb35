import { expect, test } from "vitest";
import { stateRemedy } from "../../agent/store/state-folder.ts";

test.each([
  [Object.assign(new Error("x"), { code: "ENOSPC" }), "disk is full"],
  [new Error("EROFS: read-only file system, open '/x'"), "read-only"],
  ["EACCES", "chown"],
  [Object.assign(new Error("database or disk is full"), { code: "ERR_SQLITE_ERROR" }), "make room"],
  ["database disk image is malformed", "another folder"],
])("stateRemedy() of %s says what to do", (error, said) => {
  expect(stateRemedy(error)).toContain(said);
});
