"""`overpaint demo`: edits that a newcomer can look at, made on this machine, as one page.

photos.py   the bundled photos, with things in them to erase
edits.py    the edits of the page, one section after another
page.py     the page
"""
