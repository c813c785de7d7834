# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m midcall.captures.synthetic` writes the committed samples again, with equal bytes."""

from midcall.captures.synthetic.corpus import main

if __name__ == "__main__":
    main()
