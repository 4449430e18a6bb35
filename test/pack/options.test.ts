// The command line of `npm run pack`: what is made of words, and what is said to those it does not know.
import { CommanderError } from "commander";
import { describe, expect, test } from "vitest";
import { readOptions } from "../../deploy/pack/options.ts";

/** What was read, or the text that was written instead. */
function read(...words: string[]): object | string {
  let text = "";
  const write = (words: string): boolean => {
    text += words;
    return true;
  };
  try {
    return readOptions("/project", words, { stdout: { write }, stderr: { write } });
  } catch (error) {
    expect(error).toBeInstanceOf(CommanderError);
    return text;
  }
}

describe("readOptions()", () => {
  test("makes every artefact for both architectures unless told otherwise", () => {
    expect(read()).toEqual({
      only: ["tarball", "deb", "rpm", "oci", "npm"],
      arch: ["x64", "arm64"],
      out: "/project/dist",
      preset: 6,
    });
  });

  test("takes kinds and architectures with commas, repeated, and each once", () => {
    expect(read("--only", "deb,rpm", "--only", "oci,deb", "--arch", "arm64", "--preset", "0")).toMatchObject({
      only: ["deb", "rpm", "oci"],
      arch: ["arm64"],
      preset: 0,
    });
  });

  test.each([
    [["--only", "deb,tar"], 'Got "tar", wanted one of tarball, deb, rpm, oci, npm, folder.'],
    [["--arch", "amd64"], 'Got "amd64", wanted one of x64, arm64.'],
    [["--preset", "high"], "Wanted a digit, 0 to 9."],
    [["--form", "deb"], "unknown option '--form'"],
    [["deb"], "too many arguments"],
  ])("says what is wrong with %j and what was wanted", (words, said) => {
    expect(read(...words)).toContain(said);
  });

  test("--help names every kind and architecture", () => {
    for (const word of ["tarball", "deb", "rpm", "oci", "folder", "x64", "arm64"]) {
      expect(read("--help")).toContain(word);
    }
  });
});
