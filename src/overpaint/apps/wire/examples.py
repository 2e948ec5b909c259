"""Small pictures as base64, for the examples of schemas."""

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAAAAAA6mKC9AAAAEUlEQVR42mNsYEAFTAwjWgAAmZAAoFDIQrAAAAAA"
    "SUVORK5CYII="
)
"""A grey PNG of 16 x 16 pixels, for examples."""

MASK = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQAAAAA3iMLMAAAAFElEQVR42mNgQAL8H5gYGDARMgAAI20BDofI/jkA"
    "AAAASUVORK5CYII="
)
"""A mask with its middle marked, for examples."""
