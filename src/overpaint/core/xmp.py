"""XMP packets: how a picture came to be, for any program that reads XMP (ISO 16684-1).

A packet carries `Iptc4xmpExt:DigitalSourceType` (IPTC Photo Metadata Standard 2025.1, section 14),
`xmp:CreatorTool`, and where it is wanted the recipe as JSON in a name space of our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

SourceType = Literal[
    "algorithmicallyEnhanced",
    "compositeSynthetic",
    "compositeWithTrainedAlgorithmicMedia",
    "digitalCapture",
    "humanEdits",
    "trainedAlgorithmicMedia",
]
"""Terms of IPTC's vocabulary that mean something here; others are read as they are."""

TRAINED = frozenset(
    {"compositeSynthetic", "compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia"}
)
"""Terms that say that a trained model had a part in the picture."""

MAX_BYTES = 2**20

_VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_OURS = "urn:overpaint:1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"

assert set(get_args(SourceType)) >= TRAINED


@dataclass(frozen=True)
class Mark:
    """What a packet says.

    Attributes:
        source_type: term of IPTC's vocabulary, without its address.
        tool: the program that made the picture.
        record: JSON of the recipe, where it was embedded.
    """

    source_type: str | None = None
    tool: str | None = None
    record: str | None = None


def write(mark: Mark) -> bytes:
    """A packet in UTF-8."""
    values = {
        "Iptc4xmpExt:DigitalSourceType": mark.source_type and _VOCABULARY + mark.source_type,
        "xmp:CreatorTool": mark.tool,
        "overpaint:recipe": mark.record,
    }
    attributes = "".join(
        f"\n    {name}={quoteattr(value)}" for name, value in values.items() if value
    )
    packet = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{_RDF}">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="{_IPTC}"
    xmlns:xmp="{_XMP}"
    xmlns:overpaint="{_OURS}"{attributes}/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""
    return packet.encode()


def read(packet: bytes | None) -> Mark:
    """What a packet says; nothing where it is missing, damaged or hostile."""
    if not packet or len(packet) > MAX_BYTES or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return Mark()
    try:
        # No document type, so no entities that could grow; S314 is about those.
        root = ElementTree.fromstring(packet.strip(b"\0 \n"))  # noqa: S314
    except (ElementTree.ParseError, ValueError):
        return Mark()
    source_type = _value(root, f"{{{_IPTC}}}DigitalSourceType")
    return Mark(
        source_type=source_type.rstrip("/").rsplit("/", 1)[-1] if source_type else None,
        tool=_value(root, f"{{{_XMP}}}CreatorTool"),
        record=_value(root, f"{{{_OURS}}}recipe"),
    )


def _value(root: ElementTree.Element, name: str) -> str | None:
    """A simple property, which XMP allows as an attribute, an element, or a resource."""
    for description in root.iter(f"{{{_RDF}}}Description"):
        if name in description.attrib:
            return description.attrib[name]
        element = description.find(name)
        if element is not None:
            return element.get(f"{{{_RDF}}}resource") or (element.text or "").strip() or None
    return None
