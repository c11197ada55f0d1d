//! The alerter's own tables, kept in one file with its position in the queue.
//!
//! Times are microseconds since the Unix epoch. What may change its shape without anybody but the alerter reading it
//! (the engine's state, a site's event time) is kept whole, as the bytes its owner wrote.

use crosswatch_queue::Schema;

/// The alerter's file.
pub(crate) const SCHEMA: Schema =
    Schema { what: "alerter's file", application_id: 0x4357_4131, migrations: &[TABLES] };

/// The tables, in their first version.
pub(crate) const TABLES: &str = "
-- What the rule engine remembers.
CREATE TABLE engine (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What each rule meant when it last judged.
CREATE TABLE rule (
    name    TEXT PRIMARY KEY,
    meaning TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Event time of each site, and when it last advanced by the alerter's clock.
CREATE TABLE site (
    name       TEXT PRIMARY KEY,
    time       TEXT NOT NULL,
    event_time INTEGER,
    heard      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What each rule says of each subject: ok, firing or unknown, since its newest transition if there was one.
CREATE TABLE subject_state (
    rule    TEXT NOT NULL,
    subject TEXT NOT NULL,
    state   TEXT NOT NULL,
    since   INTEGER,
    value   REAL,
    reason  TEXT,
    PRIMARY KEY (rule, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE incident (
    id              TEXT PRIMARY KEY,
    rule            TEXT NOT NULL,
    subject         TEXT NOT NULL,
    link            TEXT NOT NULL,
    fired_at        INTEGER NOT NULL,
    value           REAL,
    reason          TEXT NOT NULL,
    resolved_at     INTEGER,
    resolved_value  REAL,
    resolved_reason TEXT
) STRICT;
CREATE UNIQUE INDEX incident_open ON incident (rule, subject) WHERE resolved_at IS NULL;

-- The ledger: one row for each incident (or digest), state, receiver and channel.
CREATE TABLE notification (
    number      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL,
    state       TEXT NOT NULL,
    receiver    TEXT NOT NULL,
    channel     TEXT NOT NULL,
    body        TEXT NOT NULL,
    -- Whether it is itself a digest's first message.
    is_digest   INTEGER NOT NULL,
    -- owed, held, digested, accepted or abandoned.
    standing    TEXT NOT NULL,
    created     INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    next_try    INTEGER NOT NULL,
    error       TEXT,
    -- The digest that tells of it.
    digest      TEXT,
    accepted_at INTEGER,
    UNIQUE (id, receiver, channel, state)
) STRICT;
CREATE INDEX notification_owed ON notification (receiver, channel, next_try) WHERE standing = 'owed';
CREATE INDEX notification_held ON notification (receiver, channel, created) WHERE standing = 'held';
CREATE INDEX notification_accepted ON notification (receiver, channel, is_digest, accepted_at)
    WHERE standing = 'accepted';
CREATE INDEX notification_digest ON notification (digest) WHERE digest IS NOT NULL;
";
