/* SPDX-License-Identifier: Apache-2.0 */
#include "key_files.h"

#include "../common/read_file.h"
#include "base64url.h"
#include "jwk.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define JWKS_MAX_BYTES (1u << 20)

struct reading {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	const struct key_limits *limits;
	struct keyset *set;
	bool base64; /* secret_base64 */
};

static bool
fault(struct reading *r, const char *option, const char *path, const char *what)
{
	r->host->config_error(r->self, NULL, option, "%s: %s", path, what);
	return false;
}

static bool
read_text(struct reading *r, const char *option, const char *path, size_t max, bool is_secret,
    struct file_text *text)
{
	char error[PATH_MAX + 128];

	if (!read_file(path, max, text, error, sizeof(error))) {
		r->host->config_error(r->self, NULL, option, "%s", error);
		return false;
	}
	if (text->mode & S_IWOTH)
		r->host->log(r->self, GRAPNEL_LOG_WARNING,
		    "%s can be changed by every user of this machine; chmod o-w", path);
	if (is_secret && (text->mode & S_IROTH))
		r->host->log(r->self, GRAPNEL_LOG_WARNING,
		    "%s can be read by every user of this machine, who can then make tokens; chmod "
		    "o-r",
		    path);
	return true;
}

static bool
add(struct reading *r, const char *option, const char *path, struct key *key, const char *error)
{
	if (key == NULL)
		return fault(r, option, path, error);
	return keyset_add(r->set, key) ||
	    fault(r, option, path, "there are more keys than max_keys");
}

static bool
add_pem(struct reading *r, const char *option, const char *path, struct grapnel_str kid)
{
	struct file_text text;
	char error[256] = "";
	struct key *key;

	if (!read_text(r, option, path, KEY_MAX_BYTES, false, &text))
		return false;
	key = key_from_pem(
	    (struct grapnel_str){ text.data, text.len }, kid, r->limits, error, sizeof(error));
	file_text_free(&text);
	return add(r, option, path, key, error);
}

/* base64 with any alphabet and padding becomes base64url without. */
static bool
decode_base64(struct grapnel_str text, unsigned char *out, size_t *len)
{
	char *plain = malloc(text.len + 1);
	bool good;

	if (plain == NULL)
		return false;
	while (text.len > 0 && text.data[text.len - 1] == '=')
		text.len--;
	for (size_t i = 0; i < text.len; i++)
		plain[i] = text.data[i] == '+' ? '-' : text.data[i] == '/' ? '_' : text.data[i];
	good = base64url_decode(plain, text.len, out, len);
	explicit_bzero(plain, text.len);
	free(plain);
	return good;
}

static bool
add_secret(struct reading *r, const char *option, const char *path, struct grapnel_str kid)
{
	char error[256] = "this is not base64";
	struct grapnel_str secret;
	struct file_text text;
	unsigned char *bytes;
	struct key *key = NULL;

	if (!read_text(r, option, path, KEY_MAX_BYTES, true, &text))
		return false;
	secret = (struct grapnel_str){ text.data, text.len };
	/* The end of the line is the editor's. */
	if (secret.len > 0 && secret.data[secret.len - 1] == '\n')
		secret.len--;
	if (secret.len > 0 && secret.data[secret.len - 1] == '\r')
		secret.len--;
	bytes = calloc(1, BASE64URL_ROOM(secret.len));
	if (bytes != NULL && r->base64) {
		size_t len = 0;

		if (decode_base64(secret, bytes, &len))
			key = key_from_secret((struct grapnel_str){ (const char *)bytes, len }, kid,
			    r->limits, error, sizeof(error));
	} else if (bytes != NULL) {
		key = key_from_secret(secret, kid, r->limits, error, sizeof(error));
	}
	if (bytes != NULL)
		explicit_bzero(bytes, BASE64URL_ROOM(secret.len));
	free(bytes);
	file_text_free(&text);
	return add(r, option, path, key, error);
}

static bool
add_jwks(struct reading *r, const char *path)
{
	struct jwk_report report;
	struct file_text text;
	char error[256] = "";
	bool good;

	/* There may be secrets in it; that is seen only afterwards. */
	if (!read_text(r, "jwks_file", path, JWKS_MAX_BYTES, false, &text))
		return false;
	good = jwk_set_read(r->set, (struct grapnel_str){ text.data, text.len }, true, r->limits,
	    &report, error, sizeof(error));
	file_text_free(&text);
	if (!good)
		return fault(r, "jwks_file", path, error);
	if (report.left_out > 0)
		r->host->log(r->self, GRAPNEL_LOG_WARNING,
		    "%s: %u of %u keys cannot be used here; the first: %s", path, report.left_out,
		    report.left_out + report.used, report.first);
	return true;
}

/* The text of an option as a path. */
static bool
path_of(struct reading *r, const char *option, struct grapnel_str value, char path[PATH_MAX])
{
	if (value.len == 0 || value.len >= PATH_MAX ||
	    memchr(value.data, '\0', value.len) != NULL) {
		r->host->config_error(r->self, NULL, option, "this is not a path");
		return false;
	}
	memcpy(path, value.data, value.len);
	path[value.len] = '\0';
	return true;
}

typedef bool (*add_fn)(
    struct reading *r, const char *option, const char *path, struct grapnel_str kid);

static bool
add_list(struct reading *r, const char *option, add_fn add_one)
{
	struct grapnel_str value, none = { NULL, 0 };
	char path[PATH_MAX];
	bool good = true;

	for (size_t i = 0; (value = r->host->option_list(r->self, NULL, option, i)).data != NULL;
	     i++)
		good = path_of(r, option, value, path) && add_one(r, option, path, none) && good;
	return good;
}

/* What the end of a name says about the file; NULL: nothing that is for us. */
static add_fn
by_extension(const char *extension)
{
	static const char *const pem[] = { ".pem", ".pub", ".crt", ".cer" };

	for (size_t i = 0; i < sizeof(pem) / sizeof(pem[0]); i++)
		if (strcmp(extension, pem[i]) == 0)
			return add_pem;
	return strcmp(extension, ".secret") == 0 ? add_secret : NULL;
}

/* One file of key_directory; its name without the extension is the kid. */
static bool
add_entry(struct reading *r, const char *folder, const char *name)
{
	const char *extension = strrchr(name, '.');
	add_fn add_one = extension != NULL ? by_extension(extension) : NULL;
	struct grapnel_str kid = { name, extension != NULL ? (size_t)(extension - name) : 0 };
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/%s", folder, name);

	if (name[0] == '.' || n < 0 || (size_t)n >= sizeof(path))
		return true;
	if (add_one == NULL || kid.len > KEY_MAX_KID) {
		r->host->log(r->self, GRAPNEL_LOG_WARNING,
		    "%s is left out: files with keys are called KID.pem, .pub, .crt, .cer or "
		    ".secret",
		    path);
		return true;
	}
	return add_one(r, "key_directory", path, kid);
}

static bool
add_directory(struct reading *r, const char *folder)
{
	struct dirent **entries = NULL;
	int n = scandir(folder, &entries, NULL, alphasort);
	bool good = n >= 0;
	char text[128];

	if (n < 0)
		return fault(r, "key_directory", folder, strerror_r(errno, text, sizeof(text)));
	for (int i = 0; i < n; i++) {
		good = add_entry(r, folder, entries[i]->d_name) && good;
		free(entries[i]);
	}
	free(entries);
	return good;
}

bool
key_files_read(const struct grapnel_host *host, struct grapnel_instance *self,
    const struct key_limits *limits, struct keyset *set)
{
	struct reading r = { host, self, limits, set,
		host->option_bool(self, NULL, "secret_base64") };
	bool good = add_list(&r, "key", add_pem);
	char path[PATH_MAX];

	good = add_list(&r, "secret", add_secret) && good;
	if (host->option_given(self, NULL, "key_directory"))
		good = path_of(&r, "key_directory", host->option_str(self, NULL, "key_directory"),
			   path) &&
		    add_directory(&r, path) && good;
	if (host->option_given(self, NULL, "jwks_file"))
		good = path_of(&r, "jwks_file", host->option_str(self, NULL, "jwks_file"), path) &&
		    add_jwks(&r, path) && good;
	return good;
}
