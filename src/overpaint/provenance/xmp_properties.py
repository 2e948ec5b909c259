"""The XMP properties that a result inherits: authors, rights, captions, keywords, ratings.

It leaves out properties that would be wrong afterwards, and those that hold another picture:
thumbnails and embedded originals would show what an edit removed.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

MAX_BYTES = 2**20

LARGEST = 32_000
"""Bytes: JPEG has room for 65,504 of XMP, and the recipe comes beside."""

DEEPEST = 16
"""Levels of structures in a property."""

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
XMP = "http://ns.adobe.com/xap/1.0/"
MEDIA = "http://ns.adobe.com/xap/1.0/mm/"
EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
OURS = "urn:overpaint:1.0/"

PREFIXES = {
    RDF: "rdf",
    IPTC: "Iptc4xmpExt",
    XMP: "xmp",
    MEDIA: "xmpMM",
    EVENT: "stEvt",
    OURS: "overpaint",
    "http://www.w3.org/XML/1998/namespace": "xml",
}
"""As they are always written."""

_PREFIX = re.compile(r"(?!xml)[A-Za-z_][\w.-]*", re.IGNORECASE)
_EXIF = "http://ns.adobe.com/exif/1.0/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"

_WRONG_AFTERWARDS = {
    # what is said anew
    f"{{{IPTC}}}DigitalSourceType",
    f"{{{XMP}}}CreatorTool",
    f"{{{MEDIA}}}InstanceID",
    # where the input's content credentials are
    "{http://purl.org/dc/terms/}provenance",
    # the picture stands upright now, and may have another size
    f"{{{_TIFF}}}Orientation",
    f"{{{_TIFF}}}ImageWidth",
    f"{{{_TIFF}}}ImageLength",
    f"{{{_EXIF}}}PixelXDimension",
    f"{{{_EXIF}}}PixelYDimension",
    # a picture of the input
    f"{{{XMP}}}Thumbnails",
}
_OTHER_PICTURES = (
    OURS,
    "http://ns.google.com/photos/",  # embedded originals, depth, motion; not panoramas
    "http://ns.adobe.com/hdr-gain-map/",
    "http://ns.apple.com/HDRGainMap/",
    "http://ns.apple.com/pixeldatainfo/",
    "http://ns.adobe.com/xmp/note/",  # the rest of a packet that is elsewhere in the file
)
_PANORAMA = "http://ns.google.com/photos/1.0/panorama/"


@dataclass(frozen=True)
class Properties:
    """Properties as they are written into the new packet.

    Attributes:
        prefixes: by namespace.
        attributes: simple properties by name with prefix.
        elements: the others, as XML.
        history: what was done before, as items of a list in XML.
    """

    prefixes: Mapping[str, str]
    attributes: Mapping[str, str]
    elements: str
    history: str

    @property
    def size(self) -> int:
        """Bytes, about."""
        parts = [self.elements, self.history, *self.attributes, *self.attributes.values()]
        return sum(len(part.encode()) for part in parts)


def parse(packet: bytes | None) -> Element | None:
    """The root of a packet; None where it is missing, damaged or hostile."""
    return None if (parsed := _parsed(packet)) is None else parsed[0]


def descriptions(root: Element) -> Iterator[Element]:
    """The descriptions of the picture itself, not of one that it was made from."""
    for rdf in root.iter(f"{{{RDF}}}RDF"):
        yield from rdf.findall(f"{{{RDF}}}Description")


def inherited(packet: bytes | None) -> Properties | None:
    """The properties that a result inherits; None = unreadable, or too much."""
    parsed = _parsed(packet)
    if parsed is None:
        return None
    root, namespaces = parsed
    names = _Names(namespaces)
    attributes: dict[str, str] = {}
    elements: dict[str, str] = {}
    history = ""
    for description in descriptions(root):
        for name, value in description.attrib.items():
            if _is_inherited(name):
                attributes.setdefault(names.short(name), value)
        for element in description:
            if element.tag == f"{{{MEDIA}}}History":
                history += "".join(names.xml(item) or "" for item in _items(element))
            elif _is_inherited(element.tag) and (xml := names.xml(element)):
                elements.setdefault(names.short(element.tag), xml)
    several = "\n".join(xml for name, xml in elements.items() if name not in attributes)
    properties = Properties(names.prefixes, attributes, several, history)
    return properties if properties.size <= LARGEST else None


def _parsed(packet: bytes | None) -> tuple[Element, list[tuple[str, str]]] | None:
    """The root, and the prefixes that the packet uses."""
    if not packet or len(packet) > MAX_BYTES:
        return None
    try:
        text = packet.strip(b"\0 \n").decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    # No document type, so no entities that could grow; S314 is about those.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    try:
        events = ElementTree.iterparse(io.StringIO(text), events=("start-ns",))  # noqa: S314
        namespaces = [(prefix, uri) for _, (prefix, uri) in events]
        return events.root, namespaces  # type: ignore[attr-defined]
    except (ElementTree.ParseError, ValueError):
        return None


def _is_inherited(name: str) -> bool:
    uri = name[1:].partition("}")[0] if name.startswith("{") else ""
    if not uri or uri == RDF or name in _WRONG_AFTERWARDS:
        return False
    return uri == _PANORAMA or not uri.startswith(_OTHER_PICTURES)


def _items(history: Element) -> list[Element]:
    return [item for sequence in history for item in sequence if item.tag == f"{{{RDF}}}li"]


class _Names:
    """Writes elements with short prefixes: the packet's own where there is no clash."""

    def __init__(self, namespaces: list[tuple[str, str]]) -> None:
        self.prefixes: dict[str, str] = {}
        self._packet_prefixes = {
            uri: prefix for prefix, uri in namespaces if _PREFIX.fullmatch(prefix)
        }
        self._prefixes_in_use = set(PREFIXES.values()) | {"x"}

    def short(self, name: str) -> str:
        uri, _, local = name[1:].partition("}")
        return f"{self._prefix(uri)}:{local}"

    def xml(self, element: Element, depth: int = DEEPEST) -> str | None:
        """None where it is nested too deep, or has a name without namespace."""
        if not depth or not all(name.startswith("{") for name in (element.tag, *element.attrib)):
            return None
        inside = [self.xml(child, depth - 1) for child in element]
        if any(each is None for each in inside):
            return None
        name = self.short(element.tag)
        attributes = "".join(
            f" {self.short(key)}={quoteattr(value)}" for key, value in element.attrib.items()
        )
        text = escape((element.text or "").strip() if inside else element.text or "")
        return f"<{name}{attributes}>{text}{''.join(map(str, inside))}</{name}>"

    def _prefix(self, uri: str) -> str:
        if uri in PREFIXES:
            return PREFIXES[uri]
        if uri not in self.prefixes:
            prefix = self._packet_prefixes.get(uri, "ns1")
            names = itertools.chain([prefix], (f"ns{n}" for n in itertools.count(1)))
            self.prefixes[uri] = next(each for each in names if each not in self._prefixes_in_use)
            self._prefixes_in_use.add(self.prefixes[uri])
        return self.prefixes[uri]
