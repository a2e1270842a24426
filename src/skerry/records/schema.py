"""The tables of a home's database: how they are made, and how those of an earlier format become them.

A change that earlier releases could not read makes a new format (`SCHEMA_VERSION`), reached from the one before by `MIGRATIONS`. What only
makes looking things up faster is in `INDEXES`: a file of whatever format gets that when it is opened, and an earlier release ignores it.

The rule: whichever release made a file, after it was opened here it has the same tables and indexes as a new one.
"""

from __future__ import annotations

SCHEMA_VERSION = 2
APPLICATION_ID = 0x536B7279  # "Skry": tells our file from any other program's SQLite database

SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "CREATE TABLE facts (space TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (space, key)) WITHOUT ROWID",
    """CREATE TABLE records (seq INTEGER PRIMARY KEY, author BLOB NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, stamp INTEGER NOT NULL,
       expires INTEGER NOT NULL, hash BLOB NOT NULL, signed BLOB NOT NULL, tombstone INTEGER NOT NULL,
       formation BLOB NOT NULL DEFAULT x'')""",
    "CREATE UNIQUE INDEX records_by_identity ON records (formation, author, kind, name)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
    f"PRAGMA application_id = {APPLICATION_ID}",
)
# From each older format to the next one.
MIGRATIONS = {
    1: (  # records of other formations came to lie beside the home's own
        "ALTER TABLE records ADD COLUMN formation BLOB NOT NULL DEFAULT x''",
        "DROP INDEX records_by_identity",
        "DROP INDEX records_by_kind",
        "CREATE UNIQUE INDEX records_by_identity ON records (formation, author, kind, name)",
        "PRAGMA user_version = 2",
    ),
}
# Those of records begin with the formation: what is asked for is always in one partition.
INDEXES = (
    "DROP INDEX IF EXISTS records_by_kind",  # that of expiry finds a kind as well; each index costs every record that comes
    "CREATE INDEX IF NOT EXISTS records_by_stamp ON records (formation, stamp)",
    "CREATE INDEX IF NOT EXISTS records_by_expiry ON records (formation, kind, expires)",
    """CREATE TABLE IF NOT EXISTS offers (formation BLOB, capability TEXT, agent TEXT, author BLOB,
       PRIMARY KEY (formation, capability, agent, author)) WITHOUT ROWID""",
    # not by formation first: SQLite would take it for look-ups by capability, and read all
    "CREATE INDEX IF NOT EXISTS offers_by_agent ON offers (agent, author, formation)",
)
