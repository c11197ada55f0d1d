//! The alerter's own tables, kept in one file with its position in the queue.
//!
//! Times are microseconds since the Unix epoch. What may change its shape without anybody but the alerter reading it
//! (the engine's state, a site's event time) is kept whole, as the bytes its owner wrote.

use crosswatch_queue::Schema;

use crate::judged::JUDGED;

/// The alerter's file.
pub(crate) const SCHEMA: Schema = Schema {
    what: "alerter's file",
    application_id: 0x4357_4131,
    migrations: &[TABLES, BY_LINK, BY_KEY, MUTED, BEHIND, PEERS, JUDGED, TURNS],
};

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

/// An incident is of a link with all that fires of it, no more of one rule's subject. What is open of the former kind is
/// ended, and told to be; the rules judge anew.
pub(crate) const BY_LINK: &str = "
DROP INDEX incident_open;
ALTER TABLE incident RENAME TO former;
CREATE TABLE incident (
    id              TEXT PRIMARY KEY,
    -- The name of the link or site, or 'alerter'; and the link's, or nothing.
    place           TEXT NOT NULL,
    link            TEXT NOT NULL,
    -- The verdict, and what it rests on.
    kind            TEXT NOT NULL,
    words           TEXT NOT NULL,
    opened_at       INTEGER NOT NULL,
    -- All of it, as long as it is open.
    state           TEXT,
    resolved_at     INTEGER,
    resolved_reason TEXT
) STRICT;
CREATE INDEX incident_open ON incident (opened_at) WHERE resolved_at IS NULL;

CREATE TABLE symptom (
    number          INTEGER PRIMARY KEY,
    incident        TEXT NOT NULL,
    rule            TEXT NOT NULL,
    subject         TEXT NOT NULL,
    fired_at        INTEGER NOT NULL,
    value           REAL,
    reason          TEXT NOT NULL,
    resolved_at     INTEGER,
    resolved_value  REAL,
    resolved_reason TEXT
) STRICT;
CREATE INDEX symptom_open ON symptom (rule, subject) WHERE resolved_at IS NULL;
CREATE INDEX symptom_of ON symptom (incident);

INSERT INTO incident (id, place, link, kind, words, opened_at, resolved_at, resolved_reason)
SELECT id, iif(link = '', subject, link), link, rule, reason, fired_at, ifnull(resolved_at, fired_at),
       ifnull(resolved_reason, 'the program was upgraded') FROM former;
INSERT INTO symptom (incident, rule, subject, fired_at, value, reason, resolved_at, resolved_value, resolved_reason)
SELECT id, rule, subject, fired_at, value, reason, ifnull(resolved_at, fired_at), resolved_value,
       ifnull(resolved_reason, 'the program was upgraded') FROM former;

ALTER TABLE notification RENAME TO told;
DROP INDEX notification_owed;
DROP INDEX notification_held;
DROP INDEX notification_accepted;
DROP INDEX notification_digest;
-- As before, and a revision: what refines a firing, or tells that it is worse, is one more.
CREATE TABLE notification (
    number      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL,
    state       TEXT NOT NULL,
    revision    INTEGER NOT NULL,
    receiver    TEXT NOT NULL,
    channel     TEXT NOT NULL,
    body        TEXT NOT NULL,
    is_digest   INTEGER NOT NULL,
    -- owed, held, digested, accepted or abandoned.
    standing    TEXT NOT NULL,
    created     INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    next_try    INTEGER NOT NULL,
    error       TEXT,
    digest      TEXT,
    accepted_at INTEGER,
    UNIQUE (id, receiver, channel, state, revision)
) STRICT;
INSERT INTO notification SELECT number, id, state, 0, receiver, channel, body, is_digest, standing, created, attempts,
    next_try, error, digest, accepted_at FROM told;
INSERT OR IGNORE INTO notification (id, state, revision, receiver, channel, body, is_digest, standing, created, next_try)
SELECT told.id, 'resolved', 0, receiver, channel,
       json_set(body, '$.state', 'resolved', '$.reason', 'the program was upgraded',
                '$.text', 'RESOLVED ' || rule || ' ' || subject || ': the program was upgraded'),
       0, 'owed', created, created
FROM told JOIN former USING (id)
WHERE former.resolved_at IS NULL AND state = 'firing' AND standing IN ('owed', 'accepted');
CREATE INDEX notification_owed ON notification (receiver, channel, next_try) WHERE standing = 'owed';
CREATE INDEX notification_held ON notification (receiver, channel, created) WHERE standing = 'held';
CREATE INDEX notification_accepted ON notification (receiver, channel, is_digest, accepted_at)
    WHERE standing = 'accepted';
CREATE INDEX notification_digest ON notification (digest) WHERE digest IS NOT NULL;
DROP TABLE told;
DROP TABLE former;
DELETE FROM engine WHERE key LIKE 'series/%';
DELETE FROM subject_state;
DELETE FROM rule;
";

/// What a rule means is kept by the keys of the config, so that an edit can be told apart from another rule of the name. The
/// rules that come next are taken for those that judged.
pub(crate) const BY_KEY: &str = "DELETE FROM rule;";

/// What a silence mutes is in the ledger, too: `muted` as long as its incident is open, `silenced` if it ended so.
pub(crate) const MUTED: &str = "
-- Which silence muted it.
ALTER TABLE notification ADD COLUMN muted_by TEXT;
CREATE INDEX notification_muted ON notification (id) WHERE standing = 'muted';
CREATE INDEX notification_abandoned ON notification (receiver, channel, next_try) WHERE standing = 'abandoned';
CREATE INDEX notification_silenced ON notification (created) WHERE standing = 'silenced';
-- The silences in force, as their file had them.
CREATE TABLE silences (
    only INTEGER PRIMARY KEY CHECK (only = 0),
    text BLOB NOT NULL
) STRICT;
";

/// What is kept back while the alerter is behind is `behind`, and `muted_by` says `catch-up` then.
pub(crate) const BEHIND: &str = "
CREATE INDEX notification_behind ON notification (id) WHERE standing = 'behind';
";

/// What the other alerter is to be told, and what it has told.
pub(crate) const PEERS: &str = "
-- Of what the other alerter has told: the id by which the receiver knows it.
ALTER TABLE notification ADD COLUMN told_as TEXT;
CREATE INDEX notification_told_as ON notification (told_as) WHERE told_as IS NOT NULL;
-- Each is a message, whose number is never given again.
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    told   TEXT NOT NULL
) STRICT;
-- What the messages of this file are told from those of another by.
CREATE TABLE teller (boot TEXT NOT NULL) STRICT;
INSERT INTO teller VALUES (lower(hex(randomblob(16))));
CREATE TABLE heard (
    number   INTEGER PRIMARY KEY,
    id       TEXT NOT NULL,
    state    TEXT NOT NULL,
    revision INTEGER NOT NULL,
    receiver TEXT NOT NULL,
    channel  TEXT NOT NULL,
    place    TEXT NOT NULL,
    since    INTEGER,
    at       INTEGER NOT NULL,
    digest   TEXT,
    UNIQUE (id, receiver, channel, state, revision)
) STRICT;
CREATE INDEX heard_place ON heard (receiver, channel, place, since);
CREATE INDEX heard_at ON heard (at);
-- The other's ids of incidents that are called otherwise here.
CREATE TABLE alias (
    theirs TEXT PRIMARY KEY,
    ours   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX alias_ours ON alias (ours);
";

/// Until when a channel is left to the other alerter, who is about to tell something there; and until when an incident was that
/// it has told to be over.
pub(crate) const TURNS: &str = "
CREATE TABLE turn (
    receiver TEXT NOT NULL,
    channel  TEXT NOT NULL,
    until    INTEGER NOT NULL,
    PRIMARY KEY (receiver, channel)
) STRICT, WITHOUT ROWID;
ALTER TABLE heard ADD COLUMN until INTEGER;
ALTER TABLE heard ADD COLUMN down INTEGER NOT NULL DEFAULT 0;
";
