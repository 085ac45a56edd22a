# grapnel.m4 - plugins of the Grapnel MQTT broker, with autoconf           -*- Autoconf -*-
# SPDX-License-Identifier: MIT-0
# serial 1
#
# GRAPNEL_SDK([MINIMUM-VERSION], [ACTION-IF-FOUND], [ACTION-IF-NOT-FOUND])
# ------------------------------------------------------------------------
# Looks for the SDK (the package grapnel-dev, by way of pkg-config) and substitutes
#
#	GRAPNEL_CFLAGS		what a plugin is compiled with
#	GRAPNEL_LDFLAGS		what libtool links it with: it exports its descriptor and needs
#				nothing of the broker
#	plugindir		where it is installed; a variable of automake's, so that
#
#	plugin_LTLIBRARIES  = night.la
#	night_la_SOURCES    = night.c
#	night_la_CPPFLAGS   = $(GRAPNEL_CFLAGS)
#	night_la_LDFLAGS    = -module $(GRAPNEL_LDFLAGS)
#
# is all that Makefile.am needs (-module has to be seen by automake itself). --with-plugindir=DIR installs elsewhere.
# LT_INIT([disable-static dlopen]) has to stand before it. Without ACTION-IF-NOT-FOUND a missing SDK is an error.
AC_DEFUN([GRAPNEL_SDK],
[AC_REQUIRE([PKG_PROG_PKG_CONFIG])dnl
AC_ARG_WITH([plugindir],
	[AS_HELP_STRING([--with-plugindir=DIR], [where the broker looks for plugins @<:@as grapnel.pc says@:>@])],
	[], [with_plugindir=])
PKG_CHECK_MODULES([GRAPNEL], [grapnel]m4_ifval([$1], [ >= $1]), [
	AS_IF([test "x$with_plugindir" = x],
		[plugindir=`$PKG_CONFIG --variable=plugindir grapnel`],
		[plugindir=$with_plugindir])
	GRAPNEL_CFLAGS="$GRAPNEL_CFLAGS -fvisibility=hidden"
	GRAPNEL_LDFLAGS="-avoid-version -shared -Wl,-z,defs -Wl,-z,relro -Wl,-z,now -export-symbols-regex ^grapnel_plugin\$\$"
	AC_SUBST([plugindir])
	AC_SUBST([GRAPNEL_LDFLAGS])
	$2
], m4_ifval([$3], [[$3]], [[AC_MSG_ERROR([the SDK of Grapnel is needed (Debian package: grapnel-dev); if it is there, PKG_CONFIG_PATH has to name the folder of grapnel.pc])]]))
])
