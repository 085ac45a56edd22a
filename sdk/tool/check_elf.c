/* SPDX-License-Identifier: Apache-2.0 */
/* What the file says of itself: what it exports and needs, and how it is hardened. */
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct object {
	Elf *elf;
	bool relro, stack, stack_runs, wide, now, textrel, stays, unique;
	bool protector, fortified, could_fortify;
	char runpath[512];
	char others[512]; /* exported besides the descriptor */
	unsigned other_count;
	bool descriptor;
};

/* ---- reading ---------------------------------------------------------------------------------------------- */

static void
read_segments(struct object *o)
{
	size_t n = 0;
	GElf_Phdr p;

	(void)elf_getphdrnum(o->elf, &n);
	for (size_t i = 0; i < n; i++) {
		if (gelf_getphdr(o->elf, (int)i, &p) == NULL)
			continue;
		if (p.p_type == PT_GNU_RELRO)
			o->relro = true;
		if (p.p_type == PT_GNU_STACK) {
			o->stack = true;
			o->stack_runs = (p.p_flags & PF_X) != 0;
		}
		if (p.p_type == PT_LOAD && (p.p_flags & PF_W) && (p.p_flags & PF_X))
			o->wide = true;
	}
}

static void
read_dynamic(struct object *o, Elf_Scn *section, const GElf_Shdr *header)
{
	Elf_Data *data = elf_getdata(section, NULL);
	size_t n = header->sh_entsize > 0 ? header->sh_size / header->sh_entsize : 0;
	GElf_Dyn d;

	for (size_t i = 0; data != NULL && i < n && gelf_getdyn(data, (int)i, &d) != NULL; i++) {
		const char *text;

		switch (d.d_tag) {
		case DT_BIND_NOW:
			o->now = true;
			break;
		case DT_TEXTREL:
			o->textrel = true;
			break;
		case DT_FLAGS:
			o->now = o->now || (d.d_un.d_val & DF_BIND_NOW);
			o->textrel = o->textrel || (d.d_un.d_val & DF_TEXTREL);
			break;
		case DT_FLAGS_1:
			o->now = o->now || (d.d_un.d_val & DF_1_NOW);
			o->stays = o->stays || (d.d_un.d_val & DF_1_NODELETE);
			break;
		case DT_RPATH:
		case DT_RUNPATH:
			text = elf_strptr(o->elf, header->sh_link, d.d_un.d_val);
			snprintf(o->runpath, sizeof(o->runpath), "%s", text != NULL ? text : "?");
			break;
		default:
			break;
		}
	}
}

/* Functions that a fortified build almost always calls in their checking variant. */
static bool
fortifiable(const char *name)
{
	static const char *const names[] = { "sprintf", "vsprintf", "snprintf", "vsnprintf",
		"printf", "fprintf", "vfprintf", "strcpy", "strcat", "gets" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

static void
import_seen(struct check *c, struct object *o, const char *name)
{
	size_t len = strlen(name);

	if (strcmp(name, "__stack_chk_fail") == 0)
		o->protector = true;
	else if (strncmp(name, "__", 2) == 0 && len > 6 && strcmp(name + len - 4, "_chk") == 0)
		o->fortified = true;
	else if (fortifiable(name))
		o->could_fortify = true;
	if (strncmp(name, "__asan_", 7) == 0 || strncmp(name, "__tsan_", 7) == 0 ||
	    strncmp(name, "__ubsan_", 8) == 0)
		c->sanitized = true;
	if (strncmp(name, "__asan_", 7) == 0)
		c->runtime = "__asan_init";
	else if (strncmp(name, "__tsan_", 7) == 0)
		c->runtime = "__tsan_init";
}

static void
export_seen(struct object *o, const char *name)
{
	/* Some linkers export the ends of sections, compilers the runtime's own. */
	static const char *const linkers[] = { "_init", "_fini", "_edata", "_end", "__bss_start" };

	if (strcmp(name, "grapnel_plugin") == 0) {
		o->descriptor = true;
		return;
	}
	for (size_t i = 0; i < sizeof(linkers) / sizeof(*linkers); i++) {
		if (strcmp(name, linkers[i]) == 0)
			return;
	}
	if (strncmp(name, "__asan_", 7) == 0 || strncmp(name, "__odr_asan", 10) == 0 ||
	    strncmp(name, "__sanitizer", 11) == 0)
		return;
	o->other_count++;
	if (o->other_count <= 5)
		snprintf(o->others + strlen(o->others), sizeof(o->others) - strlen(o->others),
		    "%s%.80s", o->other_count > 1 ? ", " : "", name);
}

static void
read_symbols(struct check *c, struct object *o, Elf_Scn *section, const GElf_Shdr *header)
{
	Elf_Data *data = elf_getdata(section, NULL);
	size_t n = header->sh_entsize > 0 ? header->sh_size / header->sh_entsize : 0;
	GElf_Sym s;

	for (size_t i = 1; data != NULL && i < n && gelf_getsym(data, (int)i, &s) != NULL; i++) {
		const char *name = elf_strptr(o->elf, header->sh_link, s.st_name);
		unsigned bind = GELF_ST_BIND(s.st_info);

		if (name == NULL || bind == STB_LOCAL)
			continue;
		if (bind == STB_GNU_UNIQUE)
			o->unique = true;
		if (s.st_shndx == SHN_UNDEF)
			import_seen(c, o, name);
		else if (s.st_shndx != SHN_ABS && /* the name of a version */
		    (GELF_ST_VISIBILITY(s.st_other) == STV_DEFAULT ||
			GELF_ST_VISIBILITY(s.st_other) == STV_PROTECTED))
			export_seen(o, name);
	}
}

static void
read_object(struct check *c, struct object *o)
{
	Elf_Scn *section = NULL;
	GElf_Shdr header;

	read_segments(o);
	while ((section = elf_nextscn(o->elf, section)) != NULL) {
		if (gelf_getshdr(section, &header) == NULL)
			continue;
		if (header.sh_type == SHT_DYNAMIC)
			read_dynamic(o, section, &header);
		if (header.sh_type == SHT_DYNSYM)
			read_symbols(c, o, section, &header);
	}
}

/* ---- judging ------------------------------------------------------------------------------------------------ */

static void
judge_exports(struct check *c, const struct object *o)
{
	if (!o->descriptor)
		check_say(c, CHECK_FAIL, "exports",
		    "there is no symbol grapnel_plugin; define it with GRAPNEL_PLUGIN(...)");
	else if (o->other_count > 0)
		check_say(c, CHECK_FAIL, "exports",
		    "besides grapnel_plugin %u more: %s%s; compile with -fvisibility=hidden, or "
		    "link with a version script",
		    o->other_count, o->others, o->other_count > 5 ? " ..." : "");
	else
		check_say(c, CHECK_OK, "exports", "grapnel_plugin and nothing else");
	if (o->stays || o->unique)
		check_say(c, CHECK_WARNING, "unloading",
		    "%s, so it stays in memory after a reload%s",
		    o->stays ? "it is linked with -z nodelete"
			     : "it has symbols that are unique in a process",
		    o->stays ? "" : "; compile with -fno-gnu-unique");
	else
		check_say(c, CHECK_OK, "unloading", "it can be unloaded");
}

/* A folder where anybody, or whoever chooses the working directory, could put a library. */
static bool
runpath_bad(const char *path)
{
	while (true) {
		size_t len = strcspn(path, ":");

		if (len == 0 ||
		    (path[0] != '/' && strncmp(path, "$ORIGIN", 7) != 0 &&
			strncmp(path, "${ORIGIN}", 9) != 0) ||
		    strncmp(path, "/tmp", 4) == 0 || strncmp(path, "/var/tmp", 8) == 0 ||
		    strncmp(path, "/dev/shm", 8) == 0 || strncmp(path, "/home/", 6) == 0)
			return true;
		if (path[len] == '\0')
			return false;
		path += len + 1;
	}
}

static void
judge_paths(struct check *c, const struct object *o)
{
	if (o->runpath[0] == '\0')
		check_say(c, CHECK_OK, "run path", "none");
	else if (runpath_bad(o->runpath))
		check_say(c, CHECK_FAIL, "run path",
		    "\"%s\": libraries are looked for where others may put them; link without "
		    "-rpath",
		    o->runpath);
	else
		check_say(
		    c, CHECK_WARNING, "run path", "\"%s\"; a packaged plugin has none", o->runpath);
}

static void
judge(struct check *c, const char *what, bool good, enum checked otherwise, const char *right,
    const char *wrong)
{
	check_say(c, good ? CHECK_OK : otherwise, what, "%s", good ? right : wrong);
}

static void
judge_hardening(struct check *c, const struct object *o)
{
	judge(c, "relocations", o->relro && o->now, CHECK_FAIL, "read-only once it is loaded",
	    "they stay writable; link with -Wl,-z,relro,-z,now");
	judge(c, "stack", o->stack && !o->stack_runs, CHECK_FAIL, "not executable",
	    "executable; link with -Wl,-z,noexecstack, and look for assembler without "
	    ".note.GNU-stack");
	judge(c, "segments", !o->wide, CHECK_FAIL, "none is writable and executable",
	    "one is writable and executable");
	judge(c, "text", !o->textrel, CHECK_FAIL, "no relocations in it",
	    "it is changed at load; compile with -fPIC");
	judge(c, "stack protector", o->protector || c->sanitized, CHECK_WARNING, "there",
	    "no function uses it; compile with -fstack-protector-strong");
	judge(c, "fortify", o->fortified || !o->could_fortify || c->sanitized, CHECK_WARNING,
	    "nothing against it",
	    "functions of the C library are called without checks; compile with -O2 "
	    "-D_FORTIFY_SOURCE=2");
	judge_paths(c, o);
}

static bool
object_kind(struct check *c, const struct object *o)
{
	GElf_Ehdr header;

	if (elf_kind(o->elf) != ELF_K_ELF || gelf_getehdr(o->elf, &header) == NULL) {
		check_say(c, CHECK_FAIL, "file",
		    "it is not an ELF file; a plugin is a shared object (.so)");
		return false;
	}
	if (header.e_type != ET_DYN) {
		check_say(c, CHECK_FAIL, "file", "it is not a shared object; link it with -shared");
		return false;
	}
	check_say(c, CHECK_OK, "file", "a shared object");
	return true;
}

bool
check_elf(struct check *c)
{
	struct object o = { 0 };
	bool ok = false;
	int fd = open(c->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		check_say(c, CHECK_FAIL, "file", "%s", strerror(errno));
		return false;
	}
	if (elf_version(EV_CURRENT) != EV_NONE)
		o.elf = elf_begin(fd, ELF_C_READ, NULL);
	if (o.elf == NULL) {
		check_say(c, CHECK_FAIL, "file", "%s", elf_errmsg(-1));
	} else if (object_kind(c, &o)) {
		read_object(c, &o);
		judge_exports(c, &o);
		judge_hardening(c, &o);
		ok = true;
	}
	if (o.elf != NULL)
		(void)elf_end(o.elf);
	close(fd);
	return ok;
}
