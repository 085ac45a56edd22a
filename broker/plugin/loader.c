/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODULE_MAX_BYTES (512 * 1024 * 1024)

#if __SIZEOF_POINTER__ == 8
#define NATIVE_CLASS ELFCLASS64
#else
#define NATIVE_CLASS ELFCLASS32
#endif

static bool refuse(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Says why and is false, so that a check can return it. */
static bool
refuse(char *error, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(error, MODULE_ERROR_SIZE, format, ap);
	va_end(ap);
	return false;
}

/* The machine of a running program, from its own header: no table of #ifdefs. */
static ElfW(Half) native_machine(void)
{
	ElfW(Ehdr) self;
	ElfW(Half) machine = EM_NONE;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return EM_NONE;
	if (read(fd, &self, sizeof(self)) == (ssize_t)sizeof(self) &&
	    memcmp(self.e_ident, ELFMAG, SELFMAG) == 0)
		machine = self.e_machine;
	close(fd);
	return machine;
}

static bool
check_elf(int fd, char *error)
{
	ElfW(Ehdr) header;
	ElfW(Half) machine = native_machine();

	if (pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
		return refuse(error, "it is not an ELF file; a plugin is a shared object (.so)");
	if (header.e_ident[EI_CLASS] != NATIVE_CLASS ||
	    (machine != EM_NONE && header.e_machine != machine))
		return refuse(error, "it is built for another kind of machine than this broker");
	if (header.e_type != ET_DYN)
		return refuse(error,
		    "it is an ELF file but not a shared object; link the plugin with -shared");
	return true;
}

static bool
copy_bytes(int from, int to, off_t len, char *error)
{
	char buffer[65536];
	off_t at = 0;

	while (at < len) {
		ssize_t n = pread(from, buffer, sizeof(buffer), at);
		ssize_t done = 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return refuse(error, "reading it failed: %s",
			    n < 0 ? strerror(errno) : "it became shorter meanwhile");
		while (done < n) {
			ssize_t out = write(to, buffer + done, (size_t)(n - done));

			if (out < 0 && errno == EINTR)
				continue;
			if (out < 0)
				return refuse(
				    error, "making a private copy failed: %s", strerror(errno));
			done += out;
		}
		at += n;
	}
	return true;
}

/*
 * Where the copy lives: memory that has a file's interface, or, where that is forbidden, a
 * temporary file.
 */
static int
copy_target(const char *path)
{
	const char *base = strrchr(path, '/');
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "grapnel:%.48s", base != NULL ? base + 1 : path);
	fd = memfd_create(name, MFD_CLOEXEC);
	if (fd < 0) {
		const char *dir = getenv("TMPDIR");
		char template[256];

		snprintf(template, sizeof(template), "%.200s/grapnel-plugin-XXXXXX",
		    dir != NULL && *dir != '\0' ? dir : "/tmp");
		fd = mkostemp(template, O_CLOEXEC);
		if (fd >= 0)
			unlink(template);
	}
	return fd;
}

/* "/proc/self/fd/7: undefined symbol: x" -> "undefined symbol: x". */
static const char *
dl_reason(const char *copy)
{
	const char *text = dlerror();
	size_t len = strlen(copy);

	if (text == NULL)
		return "unknown error";
	if (strncmp(text, copy, len) == 0 && strncmp(text + len, ": ", 2) == 0)
		text += len + 2;
	return text;
}

static bool
check_descriptor(void *symbol, char *error)
{
	const struct grapnel_plugin *d = symbol;
	const ElfW(Sym) *entry = NULL;
	Dl_info info;

	/* How large the object really is: nothing behind its end is read. */
	if (dladdr1(symbol, &info, (void **)&entry, RTLD_DL_SYMENT) != 0 && entry != NULL) {
		if (ELF64_ST_TYPE(entry->st_info) == STT_FUNC)
			return refuse(error,
			    "grapnel_plugin is a function in it; it must be a struct "
			    "grapnel_plugin");
		if (entry->st_size < offsetof(struct grapnel_plugin, name))
			return refuse(error,
			    "its descriptor is too small: %zu bytes, not even ABI version and size "
			    "fit",
			    (size_t)entry->st_size);
	}
	if (d->magic != GRAPNEL_PLUGIN_MAGIC)
		return refuse(error,
		    "its descriptor has a wrong magic number; is it a Grapnel plugin, and compiled "
		    "for this machine?");
	if (d->abi_major != GRAPNEL_ABI_MAJOR)
		return refuse(error,
		    "it is compiled for plugin ABI %u.%u, this broker has %u.%u; compile it again "
		    "with this broker's SDK",
		    d->abi_major, d->abi_minor, GRAPNEL_ABI_MAJOR, GRAPNEL_ABI_MINOR);
	if (d->required_minor > GRAPNEL_ABI_MINOR)
		return refuse(error,
		    "it needs plugin ABI %u.%u or newer, this broker has %u.%u; use a newer broker "
		    "or an older plugin",
		    d->abi_major, d->required_minor, GRAPNEL_ABI_MAJOR, GRAPNEL_ABI_MINOR);
	if (d->size < GRAPNEL_PLUGIN_SIZE_1_0 || (entry != NULL && entry->st_size < d->size))
		return refuse(error, "its descriptor is too small: %zu bytes, ABI 1.0 has %zu",
		    entry != NULL && entry->st_size < d->size ? (size_t)entry->st_size : d->size,
		    GRAPNEL_PLUGIN_SIZE_1_0);
	if (d->name == NULL || *d->name == '\0')
		return refuse(error, "its descriptor has no name");
	if (d->create == NULL)
		return refuse(error, "its descriptor has no create function");
	if (d->events != 0 && d->on_events == NULL)
		return refuse(
		    error, "its descriptor asks for events but has no on_events function");
	return true;
}

/*
 * A path of our own for the copy. It holds while fd is open, and nobody else opens that number
 * meanwhile.
 */
static void
copy_path(int fd, char path[64])
{
	snprintf(path, 64, "/proc/self/fd/%d", fd);
}

static bool
module_open(struct module *m, int source, char *error)
{
	char path[64];
	void *symbol;
	size_t size;

	m->fd = copy_target(m->path);
	if (m->fd < 0)
		return refuse(error, "making a private copy failed: %s", strerror(errno));
	if (!copy_bytes(source, m->fd, m->file_size, error))
		return false;
	copy_path(m->fd, path);
	m->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (m->handle == NULL)
		return refuse(error, "it cannot be loaded: %s", dl_reason(path));
	symbol = dlsym(m->handle, "grapnel_plugin");
	if (symbol == NULL)
		return refuse(error,
		    "it has no symbol grapnel_plugin; a plugin defines one with "
		    "GRAPNEL_PLUGIN(...)");
	if (!check_descriptor(symbol, error))
		return false;
	size = ((const struct grapnel_plugin *)symbol)->size;
	memcpy(&m->descriptor, symbol, size < sizeof(m->descriptor) ? size : sizeof(m->descriptor));
	return true;
}

static void
module_close(struct module *m, bool unload)
{
	if (m->handle != NULL && unload) {
		char path[64];
		void *still;

		dlclose(m->handle);
		copy_path(m->fd, path);
		/*
		 * Some objects cannot be unloaded. The name is taken then: an open fd keeps
		 * others from getting it.
		 */
		still = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
		if (still != NULL)
			dlclose(still);
		else
			close(m->fd);
	} else if (m->handle == NULL && m->fd >= 0) {
		close(m->fd);
	}
	free(m->path);
	free(m);
}

static bool
module_is(const struct module *m, const struct stat *st)
{
	return m->device == st->st_dev && m->inode == st->st_ino && m->file_size == st->st_size &&
	    m->changed.tv_sec == st->st_mtim.tv_sec && m->changed.tv_nsec == st->st_mtim.tv_nsec;
}

bool
module_replaced(const struct module *m)
{
	struct stat st;

	return stat(m->path, &st) == 0 && !module_is(m, &st);
}

struct module *
module_load(struct module **loaded, const char *path, char error[MODULE_ERROR_SIZE])
{
	struct module *m;
	struct stat st;
	int source = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (source < 0) {
		refuse(error, "%s", strerror(errno));
		return NULL;
	}
	if (fstat(source, &st) < 0) {
		refuse(error, "%s", strerror(errno));
		goto fail;
	}
	if (!S_ISREG(st.st_mode)) {
		refuse(error, "it is not a regular file");
		goto fail;
	}
	for (m = *loaded; m != NULL; m = m->next) {
		if (strcmp(m->path, path) == 0 && module_is(m, &st)) {
			close(source);
			m->refs++;
			return m;
		}
	}
	if (st.st_size > MODULE_MAX_BYTES) {
		refuse(error, "it is larger than %d MiB", MODULE_MAX_BYTES / 1024 / 1024);
		goto fail;
	}
	if (!check_elf(source, error))
		goto fail;
	m = calloc(1, sizeof(*m));
	if (m == NULL || (m->path = strdup(path)) == NULL) {
		free(m);
		refuse(error, "out of memory");
		goto fail;
	}
	m->fd = -1;
	m->refs = 1;
	m->device = st.st_dev;
	m->inode = st.st_ino;
	m->file_size = st.st_size;
	m->changed = st.st_mtim;
	if (!module_open(m, source, error)) {
		module_close(m, true);
		goto fail;
	}
	close(source);
	m->next = *loaded;
	*loaded = m;
	return m;
fail:
	close(source);
	return NULL;
}

void
module_unref(struct module **loaded, struct module *m, bool unload)
{
	struct module **at;

	if (m == NULL || --m->refs > 0)
		return;
	for (at = loaded; *at != NULL; at = &(*at)->next) {
		if (*at == m) {
			*at = m->next;
			break;
		}
	}
	module_close(m, unload);
}
