// Removes symbols and debugging sections from a 64-bit little-endian ELF file, as `strip` does, for any machine and
// without a tool that may be absent: what is loaded at run time comes first in the file and is kept byte for byte.
// Layout: System V ABI, chapters 4 and 5 (ELF header, section header table).

const SECTION_HEADER = 64;
const ALLOCATED = 2n;
const NO_BITS = 8;

/** The file without what is not loaded. Throws when it is not such an ELF file or is laid out in another way. */
export function stripElf(bytes: Uint8Array): Buffer {
  const elf = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (elf.readUInt32BE(0) !== 0x7f454c46 || elf[4] !== 2 || elf[5] !== 1) {
    throw new Error("Cannot strip: not a 64-bit little-endian ELF file");
  }
  const table = Number(elf.readBigUInt64LE(40));
  const headers = Array.from({ length: elf.readUInt16LE(60) }, (_, index) =>
    elf.subarray(table + index * SECTION_HEADER, table + (index + 1) * SECTION_HEADER),
  );
  const loaded = headers.findLastIndex((section) => (section.readBigUInt64LE(8) & ALLOCATED) !== 0n) + 1;
  const kept = headers.slice(0, loaded);
  if (kept.slice(1).some((section) => (section.readBigUInt64LE(8) & ALLOCATED) === 0n)) {
    throw new Error("Cannot strip: a section that is not loaded lies between those that are");
  }
  const end = Math.max(...kept.map(endOf));
  const names = headers[elf.readUInt16LE(62)] as Buffer;
  const nameBytes = elf.subarray(fileOffset(names), endOf(names));
  const nameAt = align(end);
  const tableAt = align(nameAt + nameBytes.length);
  const stripped = Buffer.alloc(tableAt + (loaded + 1) * SECTION_HEADER);
  elf.copy(stripped, 0, 0, end);
  nameBytes.copy(stripped, nameAt);
  for (const [index, section] of [...kept, names].entries()) {
    section.copy(stripped, tableAt + index * SECTION_HEADER);
  }
  stripped.writeBigUInt64LE(BigInt(nameAt), tableAt + loaded * SECTION_HEADER + 24);
  stripped.writeBigUInt64LE(BigInt(tableAt), 40);
  stripped.writeUInt16LE(loaded + 1, 60);
  stripped.writeUInt16LE(loaded, 62);
  return stripped;
}

function fileOffset(section: Buffer): number {
  return Number(section.readBigUInt64LE(24));
}

/** Where a section ends in the file; those without bytes (.bss) take no room there. */
function endOf(section: Buffer): number {
  const size = section.readUInt32LE(4) === NO_BITS ? 0n : section.readBigUInt64LE(32);
  return fileOffset(section) + Number(size);
}

function align(offset: number): number {
  return Math.ceil(offset / 8) * 8;
}
