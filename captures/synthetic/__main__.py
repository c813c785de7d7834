# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m midcall.captures.synthetic`: regenerate the committed samples, byte for byte."""

from midcall.captures.synthetic.corpus import main

if __name__ == "__main__":
    main()
