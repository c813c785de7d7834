# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m captures.craft`: make the committed samples anew, byte for byte."""

from captures.craft.corpus import main

if __name__ == "__main__":
    main()
