"""`meterhub radio map --svg`: the picture is well-formed, and has every device and every link once."""

import xml.etree.ElementTree as ET

from hub.cli.radio import svg_of

ROWS = [
    {"of": "00", "neighbour": "01", "lqi": 255},
    {"of": "01", "neighbour": "02", "lqi": 40},
    {"of": "00", "neighbour": "<&>", "lqi": 0},
]


def test_the_picture_has_every_device_and_link() -> None:
    picture = ET.fromstring(svg_of(ROWS))
    kinds = [element.tag.rpartition("}")[2] for element in picture]
    assert kinds.count("line") == 3 and kinds.count("circle") == 4
    assert {element.text for element in picture if element.tag.endswith("text")} == {"00", "01", "02", "<&>"}


def test_an_empty_mesh_is_a_picture_too() -> None:
    assert len(ET.fromstring(svg_of([]))) == 0
