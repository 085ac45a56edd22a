# SPDX-License-Identifier: Apache-2.0
"""What tools/reference is made of: header.py reads and checks, pages.py puts together, mdoc.py and web.py write."""
