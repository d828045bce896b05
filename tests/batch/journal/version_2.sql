PRAGMA application_id = 1229802060;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE doubts (
    seq INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at REAL NOT NULL,
    request_id TEXT,
    reason TEXT NOT NULL,
    images INTEGER NOT NULL CHECK (images >= 0),
    usd REAL NOT NULL CHECK (usd >= 0),
    UNIQUE (job, attempt)
) STRICT;
INSERT INTO "doubts" VALUES(1,1,1,5.0,'req-1','the response was lost',1,0.04);
INSERT INTO "doubts" VALUES(2,2,1,5.0,'req-1','the response was lost',1,0.04);
INSERT INTO "doubts" VALUES(3,4,1,5.0,'req-1','the response was lost',1,0.04);
CREATE TABLE exports (
    name TEXT NOT NULL PRIMARY KEY,
    seq INTEGER NOT NULL,
    offset INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE images (
    seq INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    record TEXT NOT NULL,
    UNIQUE (job, idx)
) STRICT;
INSERT INTO "images" VALUES(1,1,0,10,'{"file_name": "images/succeeded-0.png", "bytes": 10, "sha256": "0000000000000000000000000000000000000000000000000000000000000000"}');
CREATE TABLE jobs (
    job INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    stem TEXT,                  -- NULL: the hex of the key
    id TEXT,
    line INTEGER NOT NULL,
    n INTEGER NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN ('intent', 'interrupted', 'succeeded', 'partial', 'filtered', 'failed', 'in_doubt')),
    before TEXT,                -- while in intent: the state to go back to if the request is never sent
    asked_images INTEGER NOT NULL DEFAULT 0 CHECK (asked_images >= 0),  -- while in intent: what the request asks for
    asked_usd REAL NOT NULL DEFAULT 0 CHECK (asked_usd >= 0),           -- and what that may cost
    images INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL,
    updated REAL NOT NULL,
    error TEXT
) STRICT;
INSERT INTO "jobs" VALUES(1,X'00000000000000000000000000000000','succeeded','succeeded',1,1,'succeeded',NULL,1,0.04,1,2,100.0,NULL);
INSERT INTO "jobs" VALUES(2,X'00000000000000000000000000000001','interrupted','interrupted',2,1,'interrupted',NULL,1,0.04,0,1,100.0,NULL);
INSERT INTO "jobs" VALUES(3,X'00000000000000000000000000000002','killed','killed',3,1,'intent',NULL,1,0.04,0,1,100.0,NULL);
INSERT INTO "jobs" VALUES(4,X'00000000000000000000000000000003','damaged','damaged',4,1,'interrupted',NULL,1,0.04,0,2,100.0,NULL);
CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('created','2026-11-26T19:17:16Z');
CREATE TABLE totals (  -- one row; the names of the states are those of its columns
    intent INTEGER NOT NULL DEFAULT 0,
    interrupted INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0,
    partial INTEGER NOT NULL DEFAULT 0,
    filtered INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    in_doubt INTEGER NOT NULL DEFAULT 0,
    images INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    doubts INTEGER NOT NULL DEFAULT 0,
    doubtful_images INTEGER NOT NULL DEFAULT 0,
    doubtful_usd REAL NOT NULL DEFAULT 0  -- rounded, or what is added and taken away again would leave a rest
) STRICT;
INSERT INTO "totals" VALUES(1,2,1,0,0,0,0,1,10,6,3,3,0.12);
CREATE TABLE withdrawn (  -- images that were recorded, and whose files were damaged later: bought all the same
    seq INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    at REAL NOT NULL,
    record TEXT NOT NULL
) STRICT;
INSERT INTO "withdrawn" VALUES(1,4,0,100.0,'{"file_name": "images/damaged-0.png", "bytes": 10, "sha256": "0000000000000000000000000000000000000000000000000000000000000000"}');
CREATE UNIQUE INDEX jobs_stem ON jobs (stem) WHERE stem IS NOT NULL;
CREATE INDEX jobs_in_flight ON jobs (status) WHERE status = 'intent';
CREATE INDEX jobs_failed ON jobs (line, key) WHERE status NOT IN ('intent', 'succeeded');
CREATE INDEX withdrawn_of_job ON withdrawn (job, idx);
CREATE TRIGGER job_added AFTER INSERT ON jobs BEGIN
    UPDATE totals SET
        attempts = attempts + NEW.attempts,
        intent = intent + (NEW.status = 'intent'),
        interrupted = interrupted + (NEW.status = 'interrupted'),
        succeeded = succeeded + (NEW.status = 'succeeded'),
        partial = partial + (NEW.status = 'partial'),
        filtered = filtered + (NEW.status = 'filtered'),
        failed = failed + (NEW.status = 'failed'),
        in_doubt = in_doubt + (NEW.status = 'in_doubt');
END;
CREATE TRIGGER job_moved AFTER UPDATE OF status, attempts ON jobs BEGIN
    UPDATE totals SET
        attempts = attempts + NEW.attempts - OLD.attempts,
        intent = intent + (NEW.status = 'intent') - (OLD.status = 'intent'),
        interrupted = interrupted + (NEW.status = 'interrupted') - (OLD.status = 'interrupted'),
        succeeded = succeeded + (NEW.status = 'succeeded') - (OLD.status = 'succeeded'),
        partial = partial + (NEW.status = 'partial') - (OLD.status = 'partial'),
        filtered = filtered + (NEW.status = 'filtered') - (OLD.status = 'filtered'),
        failed = failed + (NEW.status = 'failed') - (OLD.status = 'failed'),
        in_doubt = in_doubt + (NEW.status = 'in_doubt') - (OLD.status = 'in_doubt');
END;
CREATE TRIGGER job_withdrawn AFTER DELETE ON jobs BEGIN
    UPDATE totals SET
        attempts = attempts - OLD.attempts,
        intent = intent - (OLD.status = 'intent'),
        interrupted = interrupted - (OLD.status = 'interrupted'),
        succeeded = succeeded - (OLD.status = 'succeeded'),
        partial = partial - (OLD.status = 'partial'),
        filtered = filtered - (OLD.status = 'filtered'),
        failed = failed - (OLD.status = 'failed'),
        in_doubt = in_doubt - (OLD.status = 'in_doubt');
END;
CREATE TRIGGER image_added AFTER INSERT ON images BEGIN
    UPDATE jobs SET images = images + 1 WHERE job = NEW.job;
    UPDATE totals SET images = images + 1, bytes = bytes + NEW.bytes;
END;
CREATE TRIGGER image_withdrawn AFTER DELETE ON images BEGIN
    UPDATE jobs SET images = images - 1 WHERE job = OLD.job;
    UPDATE totals SET images = images - 1, bytes = bytes - OLD.bytes;
END;
CREATE TRIGGER doubt_added AFTER INSERT ON doubts BEGIN
    UPDATE totals SET
        doubts = doubts + 1,
        doubtful_images = doubtful_images + NEW.images,
        doubtful_usd = round(doubtful_usd + NEW.usd, 9);
END;
CREATE TRIGGER doubt_lowered AFTER UPDATE OF images, usd ON doubts BEGIN
    UPDATE totals SET
        doubtful_images = doubtful_images + NEW.images - OLD.images,
        doubtful_usd = round(doubtful_usd + NEW.usd - OLD.usd, 9);
END;
CREATE TRIGGER doubt_withdrawn AFTER DELETE ON doubts BEGIN
    UPDATE totals SET
        doubts = doubts - 1,
        doubtful_images = doubtful_images - OLD.images,
        doubtful_usd = round(doubtful_usd - OLD.usd, 9);
END;
COMMIT;
