-- SPDX-License-Identifier: Apache-2.0
-- Users, attributes and rights for auth-sqlite, as its README.md uses them.
--
--	sqlite3 /var/lib/grapnel/users.db < schema.sql
--
-- WAL lets the broker read while somebody writes.
PRAGMA journal_mode = WAL;

CREATE TABLE IF NOT EXISTS mqtt_user (
	username TEXT NOT NULL PRIMARY KEY,
	password TEXT,				-- of `grapnelctl passwd --hash-only`; NULL: no login with a password
	superuser INTEGER NOT NULL DEFAULT 0,	-- 1: rights are not asked for
	enabled INTEGER NOT NULL DEFAULT 1	-- 0: as if there were no such user
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS mqtt_attribute (
	username TEXT NOT NULL,
	name TEXT NOT NULL,			-- tenant, role ...: %{tenant} in topics; or max_qos, mountpoint ...
	value TEXT,
	PRIMARY KEY (username, name)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS mqtt_acl (
	id INTEGER PRIMARY KEY,			-- rules are read in this order; the first that matches decides
	username TEXT,				-- NULL: for everyone
	permission TEXT NOT NULL DEFAULT 'allow',	-- allow, deny
	action TEXT NOT NULL DEFAULT 'all',	-- publish, subscribe, read, all
	topic TEXT NOT NULL,			-- Topic Filter, with %u %c %{attribute}
	qos INTEGER,				-- the most that is allowed; NULL: any
	retain INTEGER				-- 0: no retained messages; NULL: any
);
CREATE INDEX IF NOT EXISTS mqtt_acl_username ON mqtt_acl (username);
