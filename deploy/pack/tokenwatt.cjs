#!/usr/bin/env node
// Starts the program that lies beside it on the Node that runs this, in words that an older Node understands too.
const wanted = require("../package.json").engines.node.replace(/[^0-9.]/g, "");
const have = process.versions.node;

function isOlder(one, other) {
  const [a, b] = [one.split(".").map(Number), other.split(".").map(Number)];
  for (const part of [0, 1, 2]) if (a[part] !== b[part]) return a[part] < b[part];
  return false;
}

if (isOlder(have, wanted)) {
  console.error(`Cannot start tokenwatt: this Node is ${have}, wanted ${wanted} or newer`);
  console.error(
    "hint: install Node 24, or take the tarball, the package or the image, which bring their own",
  );
  process.exit(2);
}

// As bin/tokenwatt of the others starts it (runtime.ts): in place of this process, so that signals and pid are its own. The
// flags are those of one V8: a later one may not start with them.
const { flags, malloc } = require("./runtime.json");
const program = require("node:path").join(__dirname, "../app/main.mjs");
const isSameV8 = have.split(".")[0] === wanted.split(".")[0];
const given = isSameV8 ? flags : [];
const words = [process.execPath, ...given, ...process.execArgv, program, ...process.argv.slice(2)];
process.execve(process.execPath, words, { ...malloc, ...process.env });
