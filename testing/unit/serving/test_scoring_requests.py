"""How a scoring request may say what it holds: encodings, forms, JSON and options, as clients of many kinds write them."""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from typing import Any

import pytest

from vision_mlops.config.workload import Serving
from vision_mlops.serving.http.content_codings import decode_body
from vision_mlops.serving.http.http_messages import RequestError
from vision_mlops.serving.http.scoring_requests import ScoringRequest, read_scoring_request

IMAGE = b"\xff\xd8\xff\xfb\r\n--BX\r\n\n--\xfe" + bytes(range(256)) + b"\r\r"
"""With line ends and what looks like the boundary of another form, and of base64 with both signs of its own."""
TEXT = base64.b64encode(IMAGE).decode()
MB = 2**20


def read(kind: str, body: bytes, query: str = "", encoding: str = "") -> ScoringRequest:
    serving = Serving(max_body_mb=1, max_batch=3)
    return read_scoring_request(kind, query, body, serving=serving, classes=9, content_encoding=encoding)


def refusal(*given: Any, **more: Any) -> tuple[int, str, str]:
    with pytest.raises(RequestError) as caught:
        read(*given, **more)
    return caught.value.status, caught.value.code, caught.value.message


# Content-Encoding


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED: dict[str, tuple[str, bytes]] = {
    "gzip": ("gzip", gzip.compress(IMAGE)),
    "upper": ("GZip", gzip.compress(IMAGE)),
    "x-gzip": ("x-gzip", gzip.compress(IMAGE)),
    "gzip-members": ("gzip", gzip.compress(IMAGE[:50]) + gzip.compress(b"") + gzip.compress(IMAGE[50:])),
    "deflate": ("deflate", zlib.compress(IMAGE)),
    "deflate-stored": ("deflate", zlib.compress(IMAGE, 0)),
    "deflate-raw": ("deflate", raw_deflate(IMAGE)),
    "identity": ("identity", IMAGE),
    "stacked": ("deflate, gzip", gzip.compress(zlib.compress(IMAGE))),
    "twice": ("gzip,gzip", gzip.compress(gzip.compress(IMAGE))),
    "empty-item": (", gzip,", gzip.compress(IMAGE)),
}  # fmt: skip


@pytest.mark.parametrize(("encoding", "body"), PACKED.values(), ids=PACKED)
def test_packed_bodies_are_unpacked(encoding: str, body: bytes) -> None:
    assert read("image/jpeg", body, encoding=encoding).images == [IMAGE]


def test_a_packed_body_of_many_pieces_is_unpacked() -> None:
    body = IMAGE * 3000
    assert decode_body(gzip.compress(body, 1), "gzip", MB) == body
    assert read("application/json", gzip.compress(json.dumps({"image": TEXT}).encode()), encoding="gzip").images == [
        IMAGE
    ]
    assert decode_body(b"", "gzip", MB) == b""


@pytest.mark.parametrize("packed", [gzip.compress(IMAGE), zlib.compress(IMAGE)], ids=["gzip", "deflate"])
@pytest.mark.parametrize("change", ["cut", "cut-by-one", "garbage", "flipped", "not-packed"])
def test_damaged_bodies_are_refused(packed: bytes, change: str) -> None:
    encoding = "gzip" if packed[:1] == b"\x1f" else "deflate"
    middle = len(packed) // 2
    body = {
        "cut": packed[:middle],
        "cut-by-one": packed[:-1],
        "garbage": packed + b"and more",
        "flipped": packed[:-2] + bytes([packed[-2] ^ 1]) + packed[-1:],
        "not-packed": IMAGE,
    }[change]
    status, code, message = refusal("image/jpeg", body, encoding=encoding)
    assert (status, code) == (400, "bad_encoding")
    assert f"not valid {encoding}" in message


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "compress", "aes128gcm", ", ".join(["gzip"] * 5)])
def test_other_encodings_are_refused_with_those_that_are_known(encoding: str) -> None:
    with pytest.raises(RequestError) as caught:
        read("image/jpeg", b"x", encoding=encoding)
    assert (caught.value.status, caught.value.code) == (415, "unsupported_encoding")
    assert caught.value.headers == ((b"accept-encoding", b"gzip, deflate"),)
    assert "send the body as it is, or with gzip or deflate" in caught.value.message


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", gzip.compress(bytes(2 * MB))), ("deflate", zlib.compress(bytes(2 * MB))),
        ("deflate", raw_deflate(bytes(2 * MB))), ("gzip", gzip.compress(bytes(MB + 1))),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(500 * MB), 1))), ("gzip", gzip.compress(bytes(MB)) * 2),
    ],
    ids=["gzip", "deflate", "raw", "one-above", "stacked", "members"],
)  # fmt: skip
def test_a_bomb_is_refused_before_it_fills_the_memory(encoding: str, bomb: bytes) -> None:
    assert refusal("image/jpeg", bomb, encoding=encoding)[:2] == (413, "body_too_large")


def test_a_body_of_exactly_the_limit_is_taken_and_endless_members_are_not() -> None:
    assert len(decode_body(gzip.compress(bytes(MB)), "gzip", MB)) == MB
    with pytest.raises(RequestError, match="data follows"):
        decode_body(gzip.compress(b"") * 20_000, "gzip", MB)


# Forms

FILE = b'form-data; name="image"; filename="a.jpg"'
KIND = "multipart/form-data; boundary=B"


def form(*parts: tuple[bytes, bytes], end: bytes = b"\r\n", boundary: bytes = b"B") -> bytes:
    """A form of parts, each the value of its Content-Disposition (and further lines of its head) and its content."""
    whole = b"".join(
        b"--" + boundary + end + (b"Content-Disposition: " + head + end if head else b"") + end + content + end
        for head, content in parts
    )
    return whole + b"--" + boundary + b"--" + end


ONE = form((FILE, IMAGE))
FORMS: dict[str, tuple[str, bytes]] = {
    "plain": (KIND, ONE),
    "name-star": (KIND, form((b"form-data; name=file; filename*=utf-8''%C3%BC.jpg", IMAGE))),
    "name-star-chinese": (KIND, form((b"form-data; name=file; filename*=UTF-8'zh'%E4%B8%AD.jpg", IMAGE))),
    "name-both": (KIND, form((b"form-data; name=file; filename=\"u.jpg\"; filename*=UTF-8''%C3%BC.jpg", IMAGE))),
    "name-continued": (KIND, form((b"form-data; name=file; filename*0=long; filename*1=er.jpg", IMAGE))),
    "name-continued-star": (KIND, form((b"form-data; name=file; filename*0*=utf-8''%C3; filename*1*=%BC", IMAGE))),
    "name-utf-8": (KIND, form(('form-data; name="file"; filename="\u00fc\u4e2d.jpg"'.encode(), IMAGE))),
    "name-quotes": (KIND, form((b'form-data; name="a\\"b"; filename="c\\";d.jpg"', IMAGE))),
    "name-percent-quotes": (KIND, form((b'form-data; name="a%22b"; filename="c%22.jpg"', IMAGE))),
    "name-unquoted": (KIND, form((b"form-data; name=file; filename=a.jpg", IMAGE))),
    "name-of-windows": (KIND, form((b'form-data; name="f"; filename="C:\\pictures\\a.jpg"', IMAGE))),
    "name-upper": (KIND, form((b'Form-Data; NAME="f"; FileName="a.jpg"', IMAGE))),
    "name-first": (KIND, form((b'form-data; filename="a.jpg"; name="f"', IMAGE))),
    "array": (KIND, form((b'form-data; name="file[]"; filename="a.jpg"', IMAGE))),
    "no-name": (KIND, form((b'form-data; name="f"\r\nContent-Type: image/jpeg', IMAGE))),
    "no-name-bytes": (KIND, form((b'form-data; name="f"\r\ncontent-type: Application/Octet-Stream', IMAGE))),
    "empty-name": (KIND, form((b'form-data; name="f"; filename=""', IMAGE))),
    "folded": (KIND, form((b'form-data; name="f";\r\n\tfilename="a.jpg"', IMAGE))),
    "boundary-quoted": ('multipart/form-data; boundary="B"', ONE),
    "boundary-blanks": ('multipart/form-data; boundary="a b"', form((FILE, IMAGE), boundary=b"a b")),
    "boundary-signs": ("multipart/form-data; boundary=\"'()+_,-./:=?\"", form((FILE, IMAGE), boundary=b"'()+_,-./:=?")),
    "boundary-upper": ("Multipart/Form-Data; BOUNDARY=B; charset=utf-8", ONE),
    "boundary-behind": ("multipart/form-data; charset=utf-8;boundary=B", ONE),
    "boundary-of-a-browser": (
        "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxk",
        form((FILE, IMAGE), boundary=b"----WebKitFormBoundary7MA4YWxk"),
    ),
    "preamble": (KIND, b"This is a form.\r\n" + ONE),
    "empty-line-before": (KIND, b"\r\n" + ONE),
    "epilogue": (KIND, ONE + b"Bye.\r\n--B\r\n"),
    "no-line-end-behind": (KIND, ONE.rstrip()),
    "blanks-behind-boundary": (KIND, ONE.replace(b"--B\r\nContent", b"--B \t\r\nContent")),
    "line-feeds": (KIND, form((FILE, IMAGE), end=b"\n")),
    "base64": (KIND, form((FILE + b"\r\nContent-Transfer-Encoding: base64", base64.encodebytes(IMAGE)))),
    "binary": (KIND, form((FILE + b"\r\nContent-Transfer-Encoding: BINARY", IMAGE))),
    "unfilled-input": (KIND, form((b'form-data; name="x"; filename=""', b""), (FILE, IMAGE))),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "body"), FORMS.values(), ids=FORMS)
def test_forms_of_all_kinds_of_clients(kind: str, body: bytes) -> None:
    found = read(kind, body)
    assert (found.images, found.batch) == ([IMAGE], False)


def test_a_line_feed_before_what_looks_like_the_boundary_belongs_to_the_file() -> None:
    image = b"a\n--B\nb"
    assert read(KIND, form((FILE, image))).images == [image]


def test_quoted_printable_and_several_files_of_one_name() -> None:
    quoted = form((FILE + b"\r\nContent-Transfer-Encoding: quoted-printable", b"=FF=D8a=\r\nb"))
    assert read(KIND, quoted).images == [b"\xff\xd8ab"]
    found = read(KIND, form((FILE, b"1"), (b'form-data; name="note"', b"hello"), (FILE, b"2")))
    assert (found.images, found.batch) == ([b"1", b"2"], True)


def test_fields_beside_the_file_are_options_and_the_query_counts_more() -> None:
    body = form((b'form-data; name="top_k"', b"2"), (FILE, IMAGE), (b'form-data; name="explain"', b"on"))
    found = read(KIND, body)
    assert (found.top_k, found.explain) == (2, True)
    found = read(KIND, body, "top_k=3")
    assert (found.top_k, found.explain) == (3, True)
    assert refusal(KIND, form((FILE, IMAGE), (b'form-data; name="top_k"', b"many")))[1] == "bad_query"


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("multipart/form-data", ONE, "names no boundary"),
        ('multipart/form-data; boundary=""', ONE, "names no boundary"),
        (f"multipart/form-data; boundary={'B' * 300}", ONE, "longer than 256"),
        ("multipart/form-data; boundary=C", ONE, "not in the body"),
        (KIND, b"", "not in the body"),
        (KIND, ONE[:-8], "its end is missing"),
        (KIND, ONE[: len(ONE) // 2], "its end is missing"),
        (KIND, b"--B\r\nContent-Disposition: " + FILE, "its end is missing"),
        (KIND, b"--B\r\nno head\r\n--B--\r\n", "headers of a part do not end"),
        (KIND, form((FILE + b"; x=" + b"a" * 9000, IMAGE)), "headers of a part do not end within 8 kB"),
        (KIND, form(*[(b'form-data; name="a"', b"b")] * 30), "too many parts"),
        (KIND, form((b'form-data; name="image"', IMAGE)), "plain field image but no file"),
        (KIND, form((b"", IMAGE)), r"plain field \(no name\) but no file"),
        (KIND, form((FILE + b"\r\nContent-Transfer-Encoding: base64", b"a")), "not valid base64"),
        (KIND, form((FILE + b"\r\nContent-Transfer-Encoding: uuencode", b"a")), "unknown transfer encoding 'uuencode'"),
        (KIND, b"--B\r\n" + b"\r\n--Bx" * 3000, "line of its own"),
        (KIND, form((b"form-data; filename*0*=a; name=b; filename*" + b"1" * 5000 + b"=c", b"")), "too_many"),
    ],
    ids=["none", "empty", "long", "another", "no-body", "no-end", "cut", "cut-head", "no-head", "long-head", "parts",
         "field", "no-disposition", "base64", "encoding", "lines", "digits"],
)  # fmt: skip
def test_forms_that_cannot_be_read_say_why(kind: str, body: bytes, words: str) -> None:
    status, code, message = refusal(kind, body)
    if words == "too_many":  # nothing but an empty file, whatever its name
        assert (status, code) == (400, "empty")
        return
    assert (status, code) == (400, "bad_form")
    assert re.search(words, message), message


def test_empty_files_and_too_many() -> None:
    assert refusal(KIND, form((FILE, b"")))[:2] == (400, "empty")
    assert refusal(KIND, b"--B--\r\n")[1] in ("empty", "bad_form")
    assert refusal(KIND, form((b'form-data; name="x"; filename=""', b"")))[:2] == (400, "empty")
    assert refusal(KIND, form(*[(FILE, b"1")] * 4))[:2] == (422, "batch_too_large")


# JSON

LINES = base64.encodebytes(IMAGE).decode()
URL_SAFE = base64.urlsafe_b64encode(IMAGE).decode()
TEXTS: dict[str, str] = {
    "plain": TEXT,
    "lines": LINES,
    "lines-of-windows": LINES.replace("\n", "\r\n"),
    "lines-indented": LINES.replace("\n", "\n    "),
    "url-safe": URL_SAFE,
    "url-safe-unpadded": URL_SAFE.rstrip("="),
    "unpadded": TEXT.rstrip("="),
    "data-url": f"data:image/jpeg;base64,{TEXT}",
    "data-url-upper": f"DATA:image/jpeg;charset=x;BASE64,{TEXT}",
    "data-url-percent": f"data:image/jpeg;base64,{TEXT.replace('+', '%2B').replace('/', '%2F').replace('=', '%3D')}",
    "data-url-lines": f"data:;base64,{LINES}",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_base64_as_encoders_write_it(text: str) -> None:
    assert "+" in TEXT and "/" in TEXT and TEXT.endswith("=")  # noqa: PT018 - else the cases would show nothing
    found = read("application/json", json.dumps({"image": text}).encode())
    assert (found.images, found.batch) == ([IMAGE], False)
    assert read("application/json", json.dumps({"images": [text, TEXT]}).encode()).images == [IMAGE, IMAGE]


@pytest.mark.parametrize(
    "text",
    ["***", TEXT[:-3], f"{TEXT}{TEXT}", f"{TEXT[:9]} {TEXT[9:]}", f"{URL_SAFE}+/", "data:image/png,abc", "\u00e4", "\ud800",
     "data:image/png;base64"],
    ids=["signs", "one-too-many", "two", "blank", "both-alphabets", "data-url-of-text", "letter", "surrogate", "no-comma"],
)  # fmt: skip
def test_what_is_no_base64_is_refused(text: str) -> None:
    assert refusal("application/json", json.dumps({"image": text}).encode())[:2] == (400, "bad_base64")


def test_plus_signs_that_became_blanks_are_suspected() -> None:
    assert "plus signs" in refusal("application/json", json.dumps({"image": TEXT.replace("+", " ")}).encode())[2]


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        ("application/json", "utf-8"), ("application/json", "utf-8-sig"), ("application/json", "utf-16"),
        ("application/json", "utf-16-le"), ("application/json", "utf-32"), ("application/json; charset=utf-8", "utf-8"),
        ('application/json;charset="UTF-8"', "utf-8-sig"), ("application/json; charset=utf-16", "utf-16"),
        ("application/json; charset=ISO-8859-1", "latin-1"), ("Application/JSON; charset=windows-1252", "cp1252"),
        ("application/vnd.api+json", "utf-8"), ("", "utf-8"), ("", "utf-8-sig"),
    ],
)  # fmt: skip
def test_json_in_the_character_sets_of_clients(kind: str, encoding: str) -> None:
    if not kind and encoding == "utf-8-sig":
        kind = "application/json"
    text = f"data:image/\u00fc;base64,{TEXT}"
    body = json.dumps({"image": text}, ensure_ascii=False).encode(encoding)
    assert read(kind, body).images == [IMAGE]


@pytest.mark.parametrize("charset", ["utf-7", "idna", "zlib", "no-such-thing", "unicode_escape"])
def test_other_character_sets_are_refused(charset: str) -> None:
    status, code, message = refusal(f"application/json; charset={charset}", b"{}")
    assert (status, code) == (415, "unsupported_charset")
    assert charset in message


def test_options_beside_the_image_in_json() -> None:
    found = read("application/json", json.dumps({"image": TEXT, "top_k": 2, "explain": True}).encode())
    assert (found.top_k, found.explain) == (2, True)
    found = read("application/json", json.dumps({"images": [TEXT], "top_k": "4"}).encode(), "explain=yes")
    assert (found.top_k, found.explain) == (4, True)


@pytest.mark.parametrize(
    "options",
    [{"top_k": 2.5}, {"top_k": True}, {"top_k": [2]}, {"top_k": -1}, {"explain": "perhaps"}, {"explain": 2}, {"explain": {}},
     {"explain": "x" * 9999}],
)  # fmt: skip
def test_wrong_options_in_json_are_refused(options: dict[str, Any]) -> None:
    status, code, message = refusal("application/json", json.dumps({"image": TEXT, **options}).encode())
    assert (status, code) == (422, "bad_query")
    assert next(iter(options)) in message
    assert len(message) < 200


def test_an_option_that_is_nested_deeply_is_refused() -> None:
    deep = "[" * 900 + "]" * 900
    assert refusal("application/json", f'{{"image": "{TEXT}", "explain": {deep}}}'.encode())[1] == "bad_query"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (-1, "-1"), (99, "99"), (2.5, "2.5"), (True, "true"), ("99", "'99'"), ([2], "a JSON array"),
     ({}, "a JSON object"), (10**60, "1" + "0" * 39)],
)  # fmt: skip
def test_a_wrong_option_is_named_with_its_value(value: Any, shown: str) -> None:
    message = refusal("application/json", json.dumps({"image": TEXT, "top_k": value}).encode())[2]
    assert message == f"top_k must be a whole number from 1 to 9, not {shown}"
    if value not in (0, True):  # which are no and yes
        message = refusal("application/json", json.dumps({"image": TEXT, "explain": value}).encode())[2]
        assert message == f"explain must be true or false, not {shown}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f'{{"image": "{TEXT}", "images": ["{TEXT}"]}}', "both 'image' and 'images'"),
        (f'{{"image": "{TEXT}", "images": []}}', "both 'image' and 'images'"),
        (f'{{"images": ["{TEXT}"], "image": "{TEXT}", "top_k": 1}}', "both 'image' and 'images'"),
        (f'{{"image": "{TEXT}", "image": "{TEXT}"}}', "the key 'image' more than once"),
        (f'{{"image": "{TEXT}", "top_k": 1, "top_k": 2}}', "the key 'top_k' more than once"),
    ],
)
def test_json_of_which_something_would_be_dropped_is_refused(content: str, words: str) -> None:
    status, code, message = refusal("application/json", content.encode())
    assert (status, code) == (400, "bad_json")
    assert words in message


def test_a_key_without_a_value_in_json_is_none() -> None:
    found = read("application/json", json.dumps({"image": TEXT, "images": None, "top_k": None}).encode())
    assert (found.images, found.batch, found.top_k) == ([IMAGE], False, 5)


@pytest.mark.parametrize(
    ("key", "near"), [("topk", "top_k"), ("TOP_K", "top_k"), ("imgs", "images"), ("Explain", "explain")]
)
def test_misspelt_keys_in_json_are_refused_with_the_nearest(key: str, near: str) -> None:
    for beside in ({"image": TEXT}, {}):
        status, code, message = refusal("application/json", json.dumps({**beside, key: 1}).encode())
        assert (status, code, message) == (
            422,
            "unknown_key",
            f"unknown key in the JSON {key!r}: did you mean {near!r}?",
        )


def test_keys_for_somebody_else_in_json_are_ignored() -> None:
    assert read("application/json", json.dumps({"image": TEXT, "note": 1, "id": "7"}).encode()).images == [IMAGE]


@pytest.mark.parametrize(
    ("name", "near"), [("topk", "top_k"), ("TOP_K", "top_k"), ("top-k", "top_k"), ("Explain", "explain"),
                       ("explian", "explain")],
)  # fmt: skip
def test_misspelt_options_of_a_query_or_form_are_refused(name: str, near: str) -> None:
    status, code, message = refusal("image/png", IMAGE, f"{name}=1")
    assert (status, code, message) == (422, "bad_query", f"unknown query parameter {name!r}: did you mean {near!r}?")
    status, code, message = refusal(KIND, form((FILE, IMAGE), (f'form-data; name="{name}"'.encode(), b"1")))
    assert (status, code, message) == (422, "bad_query", f"unknown field of the form {name!r}: did you mean {near!r}?")


@pytest.mark.parametrize("name", ["api-version", "code", "sig", "token", "utm_source", "_", "key", "timeout", "x", ""])
def test_what_others_add_to_a_query_is_ignored(name: str) -> None:
    assert read("image/png", IMAGE, f"{name}=1&top_k=2").top_k == 2


# Query and content type


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("True", True), ("TRUE", True), ("1", True), ("yes", True), ("on", True), ("On", True),
     ("%20true", True), ("false", False), ("False", False), ("0", False), ("no", False), ("off", False), ("OFF", False)],
)  # fmt: skip
def test_yes_and_no_as_people_and_libraries_write_them(text: str, expected: bool) -> None:
    assert read("image/png", IMAGE, f"explain={text}").explain is expected


@pytest.mark.parametrize("text", ["", "2", "perhaps", "truee", "y"])
def test_other_words_are_refused(text: str) -> None:
    assert refusal("image/png", IMAGE, f"explain={text}")[:2] == (422, "bad_query")


@pytest.mark.parametrize("kind", ["", "application/octet-stream", "image/jpeg", "IMAGE/PNG", "image/jpg; q=1"])
def test_an_image_is_taken_whatever_it_is_said_to_be(kind: str) -> None:
    assert read(kind, IMAGE).images == [IMAGE]


CURL = "application/x-www-form-urlencoded"
"""What curl sends where it is given no header."""


@pytest.mark.parametrize("kind", [CURL, "Application/X-WWW-Form-Urlencoded; charset=utf-8"])
def test_what_curl_sends_without_a_header_is_taken_by_its_content(kind: str) -> None:
    for image in (IMAGE, b"\x89PNG\r\n\x1a\n\0", b"II\x2a\0", b"RIFF\0\0\0\0WEBP"):
        assert read(kind, image).images == [image]
    assert read(kind, b' {"image": "%b", "top_k": 2}' % TEXT.encode()) == ScoringRequest([IMAGE], False, 2, False)


@pytest.mark.parametrize("body", [b"image=1&top_k=2", b"hello", b"%PDF-1.4\0"])
def test_what_is_no_image_is_told_how_curl_sends_one(body: bytes) -> None:
    status, code, message = refusal(CURL, body)
    assert (status, code) == (415, "not_an_image")
    assert message.endswith("give curl --data-binary @IMAGE")


@pytest.mark.parametrize("kind", [CURL, "", "image/jpeg"])
def test_an_empty_body_is_called_empty(kind: str) -> None:
    assert refusal(kind, b"") == (400, "empty", "the request contains no image")


def test_an_image_out_of_which_curl_took_bytes_is_refused() -> None:
    status, _, message = refusal(CURL, IMAGE.translate(None, b"\r\n\0"))
    assert status == 400
    assert "--data-binary, not --data" in message


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/mixed"])
def test_other_types_are_refused(kind: str) -> None:
    status, code, message = refusal(kind, IMAGE)
    assert (status, code) == (415, "unsupported_media_type")
    assert kind in message


@pytest.mark.parametrize("kind", ["application/json", CURL, ""])
def test_a_description_is_asked_for(kind: str) -> None:
    wanted = read(kind, b'{"describe": true}')
    assert wanted.describe
    assert wanted.images == []


@pytest.mark.parametrize(
    "more", ["false", "1", "null", '"true"', 'true, "image": "eA=="', 'true, "images": []', 'true, "top_k": 1']
)
def test_a_description_is_asked_for_with_true_alone(more: str) -> None:
    status, code, message = refusal("application/json", b'{"describe": %b}' % more.encode())
    assert (status, code) == (422, "bad_query")
    assert '{"describe": true}' in message
