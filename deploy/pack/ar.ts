// The ar archive a Debian package is (deb(5)): three members, each with owner 0:0 and one time.

/** The archive of these members, in this order. */
export function ar(members: readonly (readonly [name: string, bytes: Uint8Array])[], time: number): Buffer {
  const parts: Uint8Array[] = [Buffer.from("!<arch>\n")];
  for (const [name, bytes] of members) {
    const fields = [
      name.padEnd(16),
      String(time).padEnd(12),
      "0".padEnd(6),
      "0".padEnd(6),
      "100644".padEnd(8),
    ];
    parts.push(Buffer.from(`${fields.join("")}${String(bytes.length).padEnd(10)}\`\n`), bytes);
    if (bytes.length % 2 === 1) parts.push(Buffer.from("\n"));
  }
  return Buffer.concat(parts);
}

/** The members of an archive by name. */
export function unar(archive: Uint8Array): Map<string, Uint8Array> {
  const bytes = Buffer.from(archive.buffer, archive.byteOffset, archive.length);
  if (bytes.toString("latin1", 0, 8) !== "!<arch>\n") throw new Error("Cannot read: not an ar archive");
  const members = new Map<string, Uint8Array>();
  for (let at = 8; at + 60 <= bytes.length; ) {
    const name = bytes
      .toString("latin1", at, at + 16)
      .trim()
      .replace(/\/$/, "");
    const size = Number(bytes.toString("latin1", at + 48, at + 58));
    members.set(name, bytes.subarray(at + 60, at + 60 + size));
    at += 60 + size + (size % 2);
  }
  return members;
}
