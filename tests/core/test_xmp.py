"""XMP packets: written, and read in every way that XMP allows."""

from __future__ import annotations

import pytest

from overpaint.core import xmp

FULL = xmp.Mark("humanEdits", "Overpaint & <friends>", '{"prompt": "a \'red\' \\"kite\\" & 風\\n"}')
PROPERTY = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
TERM = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def packet(inside: str, attributes: str = "") -> bytes:
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
    <r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <r:Description r:about="" xmlns:i="{PROPERTY}" {attributes}>{inside}</r:Description>
    </r:RDF></x:xmpmeta>""".encode()


@pytest.mark.parametrize("mark", [FULL, xmp.Mark(), xmp.Mark(source_type="humanEdits")])
def test_what_is_written_is_read(mark):
    assert xmp.read(xmp.write(mark)) == mark


@pytest.mark.parametrize(
    "given",
    [
        packet("", f'i:DigitalSourceType="{TERM}"'),
        packet(f"<i:DigitalSourceType>{TERM}</i:DigitalSourceType>"),
        packet(f'<i:DigitalSourceType r:resource="{TERM}"/>'),
        packet(f"<i:DigitalSourceType> {TERM}/ </i:DigitalSourceType>") + b"\0",
    ],
)
def test_other_programs_write_it_otherwise(given):
    assert xmp.read(given).source_type == "trainedAlgorithmicMedia"


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"",
        b"not xml",
        b"\xff\xfe",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]>"
        + packet("<i:DigitalSourceType>&a;</i:DigitalSourceType>"),
        b" " * (xmp.MAX_BYTES + 1),
        packet("<i:DigitalSourceType/>"),
    ],
)
def test_damaged_and_hostile_packets_say_nothing(given):
    assert xmp.read(given) == xmp.Mark()
