"""XMP packets: written, and read in every way that XMP allows."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from overpaint.core.imaging import images
from overpaint.core.imaging.images import Picture
from overpaint.provenance import marks, xmp, xmp_properties
from overpaint.provenance.marks import Marking
from tests.conftest import picture

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
        b" " * (xmp_properties.MAX_BYTES + 1),
        packet("<i:DigitalSourceType/>"),
        packet("", f'i:DigitalSourceType="{TERM}"').decode().encode("utf-16"),
        "<?xml version='1.0' encoding='cp037'?><!DOCTYPE x>".encode("cp037"),
    ],
)
def test_damaged_and_hostile_packets_say_nothing(given):
    assert xmp.read(given) == xmp.Mark()


PHOTO = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
  xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
  xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
  xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:my="http://example.org/my/1.0/"
  xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
  xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/"
  xmlns:GImage="http://ns.google.com/photos/1.0/image/"
  xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
  xmp:CreatorTool="Camera &amp; Co" xmp:Rating="4" tiff:Orientation="6"
  xmpMM:InstanceID="xmp.iid:1" xmpMM:DocumentID="xmp.did:2" photoshop:City="S\u00e3o Paulo"
  GImage:Data="b3JpZ2luYWw="
  Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture">
 <dc:creator><rdf:Seq><rdf:li>Jo "J" &lt;Doe&gt;</rdf:li></rdf:Seq></dc:creator>
 <dc:rights><rdf:Alt><rdf:li xml:lang="x-default">All mine</rdf:li></rdf:Alt></dc:rights>
 <my:note my:kind="odd">words</my:note>
 <xmp:Thumbnails><rdf:Alt><rdf:li xmpGImg:image="c2VjcmV0"/></rdf:Alt></xmp:Thumbnails>
 <xmpMM:History><rdf:Seq><rdf:li stEvt:action="created"/></rdf:Seq></xmpMM:History>
</rdf:Description>
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/jpeg"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()

NAMES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "my": "http://example.org/my/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "stEvt": "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
}


def edited(given: bytes | None, *, marked: bool = True):
    """A result of a picture with this packet."""
    photo = Picture(picture(8, 8), xmp=given)
    made: xmp.SourceType = "compositeWithTrainedAlgorithmicMedia"
    marking = Marking(source_type=marked)
    return marks.marked(
        photo, marking, source_type=made, source=photo, canvas=photo, model={"name": "x"}
    )


class TestKept:
    """Read with an XML parser of its own, as another program would."""

    @pytest.fixture(params=["PNG", "JPEG", "WEBP"])
    def properties(self, request):
        """Of a file: the one description of the picture."""
        decoded = images.decode(images.encode(edited(PHOTO), request.param))
        root = ElementTree.fromstring(decoded.xmp)
        (description,) = root.findall("rdf:RDF/rdf:Description", NAMES)
        return description

    def test_simple_properties(self, properties):
        for name, value in {
            "xmp:Rating": "4",
            "photoshop:City": "S\u00e3o Paulo",
            "xmpMM:DocumentID": "xmp.did:2",
            "dc:format": "image/jpeg",
        }.items():
            prefix, _, local = name.partition(":")
            assert properties.get(f"{{{NAMES[prefix]}}}{local}") == value

    def test_structures(self, properties):
        assert properties.findtext("dc:creator/rdf:Seq/rdf:li", "", NAMES) == 'Jo "J" <Doe>'
        rights = properties.find("dc:rights/rdf:Alt/rdf:li", NAMES)
        assert rights.text == "All mine"
        assert rights.get("{http://www.w3.org/XML/1998/namespace}lang") == "x-default"
        note = properties.find("my:note", NAMES)
        assert (note.text, note.attrib) == ("words", {f"{{{NAMES['my']}}}kind": "odd"})

    def test_what_it_said_of_its_making_is_history(self, properties):
        first, second = properties.findall("xmpMM:History/rdf:Seq/rdf:li", NAMES)
        event = f"{{{NAMES['stEvt']}}}"
        assert first.get(f"{event}action") == "created"
        assert second.get(f"{event}softwareAgent").startswith("Overpaint ")
        assert second.get(f"{event}parameters") == (
            "before: digital source type: digitalCapture; tool: Camera & Co"
        )

    def test_what_would_be_wrong_or_shows_the_original_is_left_out(self, properties):
        text = ElementTree.tostring(properties, "unicode")
        for word in ("Orientation", "InstanceID", "Thumbnails", "c2VjcmV0", "b3JpZ2luYWw="):
            assert word not in text


def test_the_mark_is_the_new_one():
    mark = xmp.read(edited(PHOTO).xmp)
    assert mark.source_type == "compositeWithTrainedAlgorithmicMedia"
    assert mark.tool.startswith("Overpaint ")


def test_each_edit_is_an_entry():
    packet = PHOTO
    for _ in range(3):
        packet = edited(packet).xmp
    root = ElementTree.fromstring(packet)
    assert len(root.findall(".//xmpMM:History/rdf:Seq/rdf:li", NAMES)) == 4
    assert packet == edited(edited(edited(PHOTO).xmp).xmp).xmp


def test_without_a_mark_the_input_does_not_speak_for_the_result():
    packet = edited(PHOTO, marked=False).xmp
    assert xmp.read(packet) == xmp.Mark()
    assert b"All mine" in packet


def test_a_recipe_of_the_input_is_not_taken_for_the_result():
    assert xmp.read(edited(xmp.write(FULL)).xmp).record is None
    nested = packet(
        f'<i:Made><r:Description xmlns:o="urn:overpaint:1.0/" o:recipe="x" '
        f'i:DigitalSourceType="{TERM}"/></i:Made>'
    )
    assert xmp.read(nested) == xmp.Mark()


@pytest.mark.parametrize(
    "given",
    [
        packet("", f'i:Name="{"x" * 40_000}"'),
        packet(f"<i:Name>{'x' * 40_000}</i:Name>"),
        b"not xml",
        PHOTO.decode().encode("utf-16"),
    ],
)
def test_what_is_too_much_or_damaged_is_told(given):
    assert xmp.inherited(given) is None
    (told,) = marks.losses(Picture(picture(8, 8), xmp=given))
    assert "so the result has none of it" in told
    assert xmp.read(edited(given).xmp).source_type == "compositeWithTrainedAlgorithmicMedia"


@pytest.mark.parametrize("given", [None, PHOTO, packet("")])
def test_what_is_kept_is_not_told(given):
    assert marks.losses(Picture(picture(8, 8), xmp=given)) == []


@pytest.mark.parametrize("depth", [100, 20_000])
def test_deep_nesting_is_left_out_alone(depth):
    given = packet("<i:A>" * depth + "</i:A>" * depth, 'i:City="Rome"')
    kept = xmp.inherited(given)
    assert kept.attributes == {"Iptc4xmpExt:City": "Rome"}
    assert kept.elements == ""


def test_prefixes_that_clash_get_others():
    given = packet(
        '<a:P xmlns:a="urn:one"/><a:P xmlns:a="urn:two"/><x:P xmlns:x="urn:3"/>'
        '<P xmlns="urn:four"/>'
    )
    root = ElementTree.fromstring(xmp.write(xmp.Mark(), given))
    tags = [each.tag for each in root.find("rdf:RDF/rdf:Description", NAMES)]
    assert tags == ["{urn:one}P", "{urn:two}P", "{urn:3}P", "{urn:four}P"]
