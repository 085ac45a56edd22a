-- SPDX-License-Identifier: Apache-2.0
-- Users, attributes and rights for auth-mysql, as its README.md uses them; for MySQL 5.7 and later and MariaDB 10.3 and later.
--
--	mysql mqtt < schema.sql
--
-- User names are VARBINARY: two of them are equal when all their bytes are. In a text column the collation decides, and most
-- take 'ALICE' for 'alice'; even utf8mb4_bin takes 'alice ' for 'alice'. README.md has what to do about a table that exists.

CREATE TABLE IF NOT EXISTS mqtt_user (
	username VARBINARY(255) NOT NULL PRIMARY KEY,
	password VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin, -- of `grapnelctl passwd --hash-only`; NULL: no login with one
	superuser TINYINT NOT NULL DEFAULT 0,	-- 1: rights are not asked for
	enabled TINYINT NOT NULL DEFAULT 1	-- 0: as if there were no such user
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS mqtt_attribute (
	username VARBINARY(255) NOT NULL,
	name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- tenant, role ...: %{tenant} in topics; or max_qos, mountpoint ...
	value VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
	PRIMARY KEY (username, name)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS mqtt_acl (
	id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,	-- rules are read in this order; the first that matches decides
	username VARBINARY(255),			-- NULL: for everyone
	permission ENUM('allow', 'deny') NOT NULL DEFAULT 'allow',
	action ENUM('publish', 'subscribe', 'read', 'all') NOT NULL DEFAULT 'all',
	topic TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,	-- Topic Filter, with %u %c %{attribute}
	qos TINYINT,				-- the most that is allowed; NULL: any
	retain TINYINT,				-- 0: no retained messages; NULL: any
	KEY mqtt_acl_username (username)
) ENGINE = InnoDB;
