# SPDX-License-Identifier: Apache-2.0
# GRAPNEL_FLAG(VARIABLE, FLAG): append FLAG to VARIABLE when compiler and linker take it in silence.
AC_DEFUN([GRAPNEL_FLAG], [
	AC_MSG_CHECKING([whether $CC accepts $2])
	grapnel_saved_cflags=$CFLAGS
	CFLAGS="$CFLAGS $SAN_FLAGS $2 -Werror"
	AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <stdio.h>]], [[puts("")]])],
		[AC_MSG_RESULT([yes]); AS_VAR_APPEND([$1], [" $2"])],
		[AC_MSG_RESULT([no])])
	CFLAGS=$grapnel_saved_cflags
])
