/* SPDX-License-Identifier: Apache-2.0 */
/* Made by tests/abi/freeze. */
#include "1.0/layout.h"
