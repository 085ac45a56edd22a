# SPDX-License-Identifier: Apache-2.0
# GRAPNEL_PLUGIN_LIB(NAME, PREFIX, MODULES, [OTHER-MODULES])
# --with-NAME[=no|yes]: the plugin auth-NAME and its library. Default: built where pkg-config finds the library.
# Sets PREFIX_CFLAGS, PREFIX_LIBS and the automake conditional HAVE_PREFIX.
AC_DEFUN([GRAPNEL_PLUGIN_LIB], [
	AC_ARG_WITH([$1],
		[AS_HELP_STRING([--with-$1], [build the plugin auth-$1 (needs $3) @<:@where the library is found@:>@])],
		[], [with_$1=auto])
	have_$1=no
	AS_IF([test "x$with_$1" != xno], [
		PKG_CHECK_MODULES([$2], [$3], [have_$1=yes], [
			m4_ifval([$4], [PKG_CHECK_MODULES([$2]_OTHER, [$4], [have_$1=yes
				$2_CFLAGS=$$2_OTHER_CFLAGS $2_LIBS=$$2_OTHER_LIBS], [:])], [:])
		])
		AS_IF([test "$with_$1$have_$1" = yesno],
			[AC_MSG_ERROR([--with-$1 was asked for, but pkg-config does not find $3])])
	])
	AM_CONDITIONAL([HAVE_$2], [test $have_$1 = yes])
	AS_IF([test $have_$1 = yes], [built_plugins="$built_plugins auth-$1"], [left_out_plugins="$left_out_plugins auth-$1"])
])
