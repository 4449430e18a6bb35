// The tables of the ledger database and how an older file is brought to them.
// Amounts are 64-bit integers in ledger units; a histogram is JSON. `rows` is read: what closed buckets have, in `closed_rows`,
// clustered by bucket, the latest revision only (what one replaced is in `superseded`), and what moved in open ones.
// `carried` is what a series booked in days that were pruned, so that its total can still be proved. `check` columns hold the start of a SHA-256 and pinpoint a changed byte.
import type { DatabaseSync } from "node:sqlite";

/** Statements that lead from one version of the file to the next; never edited once released. */
const migrations: readonly string[] = [
  `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    metric TEXT NOT NULL,
    dimensions TEXT NOT NULL,
    "check" TEXT NOT NULL,
    start TEXT NOT NULL,
    total INTEGER,
    histogram TEXT,
    carried INTEGER NOT NULL DEFAULT 0,
    announced INTEGER NOT NULL,
    ended TEXT,
    live INTEGER NOT NULL DEFAULT 1
  );
  CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL, "check" TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE rows (
    bucket INTEGER NOT NULL,
    series INTEGER NOT NULL,
    amount INTEGER,
    histogram TEXT,
    revision INTEGER NOT NULL,
    PRIMARY KEY (bucket, series)
  ) WITHOUT ROWID;
  CREATE TABLE superseded (
    bucket INTEGER NOT NULL,
    series INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    amount INTEGER,
    histogram TEXT,
    PRIMARY KEY (bucket, series, revision)
  ) WITHOUT ROWID;
  CREATE TABLE buckets (
    bucket INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    closed TEXT NOT NULL,
    quality TEXT NOT NULL,
    figures TEXT NOT NULL,
    digest TEXT NOT NULL,
    checks BLOB NOT NULL,
    PRIMARY KEY (bucket, revision)
  ) WITHOUT ROWID;
  CREATE TABLE days (
    day INTEGER NOT NULL,
    series INTEGER NOT NULL,
    amount INTEGER,
    histogram TEXT,
    PRIMARY KEY (day, series)
  ) WITHOUT ROWID;
  CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    hash TEXT NOT NULL
  );
  CREATE TABLE deliveries (sink TEXT PRIMARY KEY, bucket INTEGER NOT NULL) WITHOUT ROWID;
  `,
  // 'exported': rows of what it moved are kept under other series; 'kept': never exported; NULL: both.
  `ALTER TABLE series ADD COLUMN role TEXT;`,
  // Usage records that were counted, by a hash of who sent them and their id, until none of that id is taken any more.
  `
  CREATE TABLE usage (key TEXT PRIMARY KEY, until INTEGER NOT NULL, content TEXT NOT NULL) WITHOUT ROWID;
  CREATE INDEX usage_until ON usage (until);
  `,
  // Apart from the names: totals change at every beat, and a page of the file holds ten names and three hundred totals.
  `
  CREATE TABLE totals (series INTEGER PRIMARY KEY, total INTEGER, histogram TEXT);
  INSERT INTO totals SELECT id, total, histogram FROM series;
  ALTER TABLE series DROP COLUMN total;
  ALTER TABLE series DROP COLUMN histogram;
  `,
  // Written apart, they are read as the one table they were.
  `
  ALTER TABLE series RENAME TO names;
  CREATE VIEW series AS
    SELECT id, metric, dimensions, "check", start, total, histogram, carried, announced, ended, live, role
    FROM names LEFT JOIN totals ON totals.series = names.id;
  `,
  // Totals of 128 series a row (series-pages.ts), each at the place id % 128: a number, a histogram, or null for none. SQLite
  // before 3.38, which others may read the file with, has no `->>`.
  `
  DROP VIEW series;
  CREATE TABLE total_pages (page INTEGER PRIMARY KEY, totals TEXT NOT NULL);
  WITH RECURSIVE places(place) AS (SELECT 0 UNION ALL SELECT place + 1 FROM places WHERE place < 127)
  INSERT INTO total_pages
    SELECT page, '[' || group_concat(coalesce(histogram, total, 'null'), ',' ORDER BY place) || ']'
    FROM (SELECT DISTINCT series / 128 AS page FROM totals) CROSS JOIN places
      LEFT JOIN totals ON series = page * 128 + place
    GROUP BY page;
  DROP TABLE totals;
  CREATE VIEW series AS
    SELECT id, metric, dimensions, "check", start,
      (SELECT json_extract(totals, '$[' || (id % 128) || ']') FROM total_pages
        WHERE page = id / 128 AND json_type(totals, '$[' || (id % 128) || ']') = 'integer') AS total,
      (SELECT json_extract(totals, '$[' || (id % 128) || ']') FROM total_pages
        WHERE page = id / 128 AND json_type(totals, '$[' || (id % 128) || ']') = 'object') AS histogram,
      carried, announced, ended, live, role
    FROM names;
  `,
  // No table is another one, but state rows are: label sets share rows (meter/counters/key-rows.ts), and values that were
  // said twice are said once. An older program would begin without them, and count what was counted: it must not open the file.
  "",
  // Buckets that are open lie in pages of 128 series (open-rows.ts), as totals do; one that closes gets a row for each series.
  `
  ALTER TABLE rows RENAME TO closed_rows;
  CREATE TABLE open_pages (
    bucket INTEGER NOT NULL,
    page INTEGER NOT NULL,
    amounts TEXT NOT NULL,
    PRIMARY KEY (bucket, page)
  ) WITHOUT ROWID;
  CREATE VIEW open_rows AS
    SELECT bucket, page, page * 128 + key AS series, CASE type WHEN 'integer' THEN value END AS amount,
      CASE type WHEN 'object' THEN value END AS histogram, 0 AS revision
    FROM open_pages, json_each(amounts) WHERE type <> 'null';
  CREATE VIEW rows AS
    SELECT bucket, series, amount, histogram, revision FROM closed_rows
    UNION ALL SELECT bucket, series, amount, histogram, revision FROM open_rows;
  CREATE TEMP TABLE moving AS
    SELECT bucket, series, amount, histogram FROM closed_rows WHERE revision = 0 AND bucket > (
      SELECT coalesce(max(bucket), -1) FROM buckets WHERE digest <> '');
  WITH RECURSIVE places(place) AS (SELECT 0 UNION ALL SELECT place + 1 FROM places WHERE place < 127)
  INSERT INTO open_pages
    SELECT p.bucket, page, '[' || group_concat(coalesce(histogram, amount, 'null'), ',' ORDER BY place) || ']'
    FROM (SELECT DISTINCT bucket, series / 128 AS page FROM moving) p CROSS JOIN places
      LEFT JOIN moving m ON m.bucket = p.bucket AND m.series = page * 128 + place
    GROUP BY p.bucket, page;
  DELETE FROM closed_rows WHERE revision = 0 AND bucket IN (SELECT bucket FROM moving);
  DROP TABLE moving;
  `,
];

/** Lets an older file that may not be written to be read like one of this program. */
export function showAsNew(database: DatabaseSync): void {
  const format = formatOf(database);
  // Totals are apart, and there is no view of both.
  if (format === 4)
    database.exec(`
      CREATE TEMP VIEW series AS
        SELECT names.*, total, histogram FROM main.series AS names LEFT JOIN main.totals ON totals.series = names.id`);
  // Buckets that are open have rows like the others.
  if (format > 0 && format < 8)
    database.exec(`
      CREATE TEMP VIEW closed_rows AS SELECT * FROM main.rows;
      CREATE TEMP VIEW open_pages AS SELECT 0 AS bucket, 0 AS page, '[]' AS amounts WHERE 0;
      CREATE TEMP VIEW open_rows AS SELECT * FROM main.rows WHERE 0`);
}

/** How many of the migrations a file has seen. For a while format 4 was written with the view that makes a 5 of it. */
function formatOf(database: DatabaseSync): number {
  const said = Number(database.prepare("PRAGMA user_version").get()?.["user_version"] ?? 0);
  if (said !== 4) return said;
  return database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'names'").get() === undefined ? 4 : 5;
}

/** Buckets whose latest revision is sealed: one that a step of the clock opened again has an empty digest. */
export const SEALED_BUCKETS =
  "(SELECT bucket FROM (SELECT bucket, max(revision), digest FROM buckets GROUP BY bucket) WHERE digest <> '')";

/** Version of the file this program writes. */
const schemaVersion = migrations.length;

/** Brings the file to this program's version; throws when the file is from a newer program. */
export function migrate(database: DatabaseSync, path: string): void {
  const found = formatOf(database);
  if (found > schemaVersion) {
    throw new Error(
      `Cannot use ${path}: it has ledger format ${found}, this program knows up to ${schemaVersion}`,
    );
  }
  for (let version = found; version < schemaVersion; version++) {
    database.exec("BEGIN IMMEDIATE");
    try {
      database.exec(migrations[version] ?? "");
      database.exec(`PRAGMA user_version = ${version + 1}`);
      database.exec("COMMIT");
    } catch (error) {
      database.exec("ROLLBACK");
      throw error;
    }
  }
}
