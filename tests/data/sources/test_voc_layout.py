"""VOC data sets as other tools pack and write them."""

import unicodedata

import numpy as np
import pytest

from kd_tf.errors import UserError
from tests.data import made
from tests.data.made import open_spec

PNG = made.encode(made.colours())
# Pixels 2 to 11 and 3 to 7, counted from 1 and inclusive.
CORNERS, XYXY = (2, 3, 11, 7), [[1, 2, 11, 7]]
XML = made.voc_xml([("cat", CORNERS, 0)])


def _write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"voc:{folder}?name=set"


def _only_boxes(spec):
    source = open_spec(spec)
    assert len(source.items) == 1
    assert source.read_bytes(source.items[0]) == PNG
    return source.read_labels(source.items[0])[0].boxes.tolist()


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"a.xml": XML, "a.png": PNG}, id="one_flat_folder"),
        pytest.param({"annotations/a.xml": XML, "images/a.png": PNG}, id="lower_case"),
        pytest.param({"annotations/a.xml": XML, "jpegimages/a.png": PNG}, id="lower_case_jpeg"),
        pytest.param({"ANNOTATIONS/a.XML": XML, "IMAGES/a.PNG": PNG}, id="upper_case"),
        pytest.param({"Annotations/a.xml": XML, "a.png": PNG}, id="images_beside_the_folder"),
        pytest.param(
            {
                "Annotations/a.xml": XML, "JPEGImages/a.png": PNG, "Annotations/._a.xml": b"\0\5",
                "JPEGImages/._a.png": b"\0\5\x16", "__MACOSX/JPEGImages/._a.png": b"\0\5",
            },
            id="side_files_of_macos",
        ),
        pytest.param(
            {"Annotations/x.xml": XML.replace("a.png", r"C:\photos\a.png"), "Images/a.png": PNG},
            id="file_name_with_backslashes",
        ),
        pytest.param(
            {
                "Annotations/" + unicodedata.normalize("NFC", "bär.xml"): XML,
                "Images/" + unicodedata.normalize("NFD", "bär.png"): PNG,
            },
            id="accents_taken_apart",
        ),
    ],
)  # fmt: skip
def test_files_are_found(tmp_path, files):
    assert _only_boxes(_write(tmp_path, files)) == XYXY


def test_accents_that_fit_two_files_are_a_reject(tmp_path):
    names = [unicodedata.normalize(form, "bä\u0323r") for form in ("NFC", "NFD")]
    spec = _write(tmp_path, {f"Images/{name}.png": PNG for name in names})
    _write(tmp_path, {"Annotations/ba\u0308\u0323r.xml": XML, "Annotations/z.xml": XML})
    _write(tmp_path, {"Images/z.png": PNG})
    reasons = [r.reason for r in open_spec(spec).rejects if r.whole_image]
    assert reasons == ["ambiguous file name"]


def test_side_files_are_counted_apart(tmp_path):
    files = {"Annotations/a.xml": XML, "Images/a.png": PNG, "Images/._a.png": b"\0"}
    source = open_spec(_write(tmp_path, files))
    assert [(r.reason, r.whole_image) for r in source.rejects] == [
        ("side file of another system", False)
    ]


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("gb2312", "GB2312"), ("gbk", "gbk"), ("shift_jis", "Shift_JIS"), ("euc_kr", "euc-kr"),
        ("big5", "Big5"), ("cp1252", "windows-1252"), ("utf-16", "utf-16"), ("utf-8-sig", "utf-8"),
        ("utf-16", None), ("cp1252", None), ("latin-1", "iso-8859-1"),
    ],
)  # fmt: skip
def test_xml_in_any_encoding(tmp_path, encoding, declared):
    own = {"cp1252": "bär", "latin-1": "bär", "big5": "中", "euc_kr": "고양이"}
    name = own.get(encoding, "猫")
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    xml = head + made.voc_xml([(name, CORNERS, 0)])
    spec = _write(tmp_path, {"a.xml": xml.encode(encoding), "a.png": PNG})
    assert open_spec(spec).class_names == (name,)
    assert _only_boxes(spec) == XYXY


def test_xml_of_an_unknown_encoding_is_a_reject(tmp_path):
    xml = '<?xml version="1.0" encoding="klingon"?>' + XML
    spec = _write(tmp_path, {"a.xml": xml, "a.png": PNG, "b.xml": XML, "b.png": PNG})
    assert [r.reason for r in open_spec(spec).rejects] == ["bad annotation"]


@pytest.mark.parametrize(
    ("corners", "options", "expected"),
    [
        pytest.param([(2, 3, 11, 7)], "", [[1, 2, 11, 7]], id="counted_from_1"),
        pytest.param(
            [(0, 3, 11, 7), (2, 3, 11, 7)], "", [[0, 3, 11, 7], [2, 3, 11, 7]], id="zero_proves_0"
        ),
        pytest.param([(2.5, 3, 11, 7)], "", [[2.5, 3, 11, 7]], id="fraction_proves_0"),
        pytest.param([(2, 3, 11, 7)], "&origin=0", [[2, 3, 11, 7]], id="origin_0"),
        pytest.param([(1, 0, 11, 7)], "&origin=1", [[0, 0, 11, 7]], id="origin_1"),
        pytest.param(
            [(0, 3, 11, 7)] + [(2, 3, 11, 7)] * 199, "",
            [[0, 2, 11, 7]] + [[1, 2, 11, 7]] * 199, id="one_of_200_is_a_slip",
        ),
    ],
)  # fmt: skip
def test_origin_of_pixels(tmp_path, corners, options, expected):
    xml = made.voc_xml([("cat", box, 0) for box in corners])
    spec = _write(tmp_path, {"a.xml": xml, "a.png": PNG}) + options
    np.testing.assert_allclose(_only_boxes(spec), expected)


def test_corners_in_fractions_are_refused(tmp_path):
    xml = made.voc_xml([("cat", (0.1, 0.2, 0.5, 0.75), 0)])
    with pytest.raises(UserError, match=r"all 1 boxes lie within 0..1"):
        open_spec(_write(tmp_path, {"a.xml": xml, "a.png": PNG}))


@pytest.mark.parametrize(
    ("text", "stems"),
    [
        pytest.param(b"a\nb\n", ["a", "b"], id="stems"),
        pytest.param(b"a  1\nb -1\n", ["a", "b"], id="list_of_a_class"),
        pytest.param(b"b  0\r\n", ["b"], id="difficult_of_a_class"),
        pytest.param(b"a.png\nJPEGImages/b.png", ["a", "b"], id="file_names"),
        pytest.param("\ufeffa\r\n".encode("utf-16-le"), ["a"], id="utf_16"),
        pytest.param(b"\xef\xbb\xbfa\rb\r", ["a", "b"], id="byte_order_mark"),
    ],
)
def test_ids_files(tmp_path, text, stems):
    files = {"a.xml": XML, "a.png": PNG, "b.xml": XML, "b.png": PNG, "list.txt": text}
    source = open_spec(_write(tmp_path, files) + "&ids=list.txt")
    assert [item.original_id for item in source.items] == stems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(b"\n \n", "lists no image: it is empty", id="empty"),
        pytest.param(b"c 1\nd -1", "2 of which have no annotation: 'c 1', 'd -1'", id="others"),
        pytest.param(b"a\0b", "NUL", id="binary"),
    ],
)
def test_ids_files_without_images_say_why(tmp_path, text, message):
    spec = _write(tmp_path, {"a.xml": XML, "a.png": PNG, "list.txt": text})
    with pytest.raises(UserError, match=message):
        open_spec(spec + "&ids=list.txt")


def test_object_without_a_name_is_lost_and_its_image_is_no_background(tmp_path):
    xml = made.voc_xml([("", CORNERS, 0)])
    files = {"a.xml": xml, "a.png": PNG, "b.xml": XML, "b.png": PNG}
    source = open_spec(_write(tmp_path, files))
    assert source.read_labels(source.items[0])[0].judged.tolist() == []
    assert source.read_labels(source.items[1])[0].judged is None
