"""XMP packets: how a picture came to be, for any program that reads XMP (ISO 16684-1).

A packet carries `Iptc4xmpExt:DigitalSourceType` (IPTC Photo Metadata Standard 2025.1, section 14),
`xmp:CreatorTool`, and where it is wanted the recipe as JSON in a name space of our own. The input's
other properties are handed on (`xmp_properties`); what it said of its own making becomes an entry
of `xmpMM:History`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from overpaint.provenance.xmp_properties import (
    IPTC,
    OURS,
    PREFIXES,
    RDF,
    XMP,
    Properties,
    descriptions,
    inherited,
    parse,
)

SourceType = Literal[
    "algorithmicallyEnhanced",
    "compositeSynthetic",
    "compositeWithTrainedAlgorithmicMedia",
    "digitalCapture",
    "humanEdits",
    "trainedAlgorithmicMedia",
]
"""Terms of IPTC's vocabulary that mean something here; others are read as they are."""

__all__ = ["TRAINED", "Mark", "SourceType", "inherited", "read", "write"]

TRAINED = frozenset(
    {"compositeSynthetic", "compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia"}
)
"""Terms that say that a trained model had a part in the picture."""

_VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"

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


def write(mark: Mark, source: bytes | None = None) -> bytes:
    """A packet in UTF-8.

    Args:
        mark: what it says of how the picture came to be.
        source: the input's packet, whose properties are handed on; see `inherited`.
    """
    properties = inherited(source) or Properties({}, {}, "", "")
    values = {
        "Iptc4xmpExt:DigitalSourceType": mark.source_type and _VOCABULARY + mark.source_type,
        "xmp:CreatorTool": mark.tool,
        "overpaint:recipe": mark.record,
        **properties.attributes,
    }
    attributes = "".join(
        f"\n    {name}={quoteattr(value)}" for name, value in values.items() if value
    )
    spaces = "".join(
        f"\n    xmlns:{prefix}={quoteattr(uri)}"
        for uri, prefix in {**PREFIXES, **properties.prefixes}.items()
        if prefix != "xml"
    )
    inside = properties.elements + _history(properties.history, mark, read(source))
    packet = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about=""{spaces}{attributes}>{inside}</rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""
    return packet.encode()


def read(packet: bytes | None) -> Mark:
    """What a packet says; nothing where it is missing, damaged or hostile."""
    root = parse(packet)
    if root is None:
        return Mark()
    source_type = _value(root, f"{{{IPTC}}}DigitalSourceType")
    return Mark(
        source_type=source_type.rstrip("/").rsplit("/", 1)[-1] if source_type else None,
        tool=_value(root, f"{{{XMP}}}CreatorTool"),
        record=_value(root, f"{{{OURS}}}recipe"),
    )


def _value(root: ElementTree.Element, name: str) -> str | None:
    """A simple property, which XMP allows as an attribute, an element, or a resource."""
    for description in descriptions(root):
        if name in description.attrib:
            return description.attrib[name]
        element = description.find(name)
        if element is not None:
            return element.get(f"{{{RDF}}}resource") or (element.text or "").strip() or None
    return None


def _history(items: str, mark: Mark, before: Mark) -> str:
    """The history of the picture, with the claims of the input before this edit."""
    claims = {"digital source type": before.source_type, "tool": before.tool}
    if mark.tool and any(claims.values()):
        text = "; ".join(f"{name}: {value}" for name, value in claims.items() if value)
        items += (
            f'<rdf:li stEvt:action="edited" stEvt:softwareAgent={quoteattr(mark.tool)}'
            f" stEvt:parameters={quoteattr(f'before: {text}')}/>"
        )
    return f"<xmpMM:History><rdf:Seq>{items}</rdf:Seq></xmpMM:History>" if items else ""
