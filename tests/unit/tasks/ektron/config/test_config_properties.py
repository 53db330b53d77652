"""For any configuration and any nodes, only the wanted values change, and a second edit changes nothing."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.ektron.certificates.family import thumbprint
from tasks.ektron.config.editors import Edit
from tasks.ektron.config.readers import read_service
from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.desired.settings import edited
from tasks.ektron.desired.target import Target
from tasks.ektron.refusals import ConfigRefused
from tests.sampling import examples

VALUE = "TkVX"
NODE = st.from_regex(r"[A-Z0-9][A-Z0-9_-]{0,8}", fullmatch=True)
BLANKS = st.sampled_from(["", " ", "  ", "\t", "\n", "\r\n    ", "\n\n"])
COMMENT = st.text(alphabet="ab <>/='\"&\u00e9\n", max_size=20).map(lambda text: f"<!--{text}x-->")
WORD = st.text(alphabet="ab<>&\"'=/ \u00e9", max_size=12)
ENCODINGS = [
    ("", b"", "utf-8"),
    ('<?xml version="1.0" encoding="utf-8"?>', b"\xef\xbb\xbf", "utf-8"),
    ("<?xml version='1.0' encoding='utf-16'?>", b"\xff\xfe", "utf-16-le"),
    ("<?xml version='1.0' encoding='utf-16'?>", b"\xfe\xff", "utf-16-be"),
    ('<?xml version="1.0" encoding="windows-1252" standalone="yes"?>', b"", "cp1252"),
    ('<?xml version="1.0" encoding="iso-8859-1"?>', b"", "latin-1"),
]


def written(value: str, quote: str) -> str:
    """A value in the form of an attribute."""
    escaped = value.replace("&", "&amp;").replace("<", "&lt;")
    return quote + escaped.replace(quote, "&quot;" if quote == '"' else "&apos;") + quote


@dataclass
class Generated:
    """A configuration and the values in it."""

    data: bytes
    bom: bytes
    codec: str
    flag: str
    values: dict[str, str]  #: key -> its value in the file


@st.composite
def configs(draw: st.DrawFn) -> Generated:
    """A service configuration with correct or wrong values, in some style."""
    declaration, bom, codec = draw(st.sampled_from(ENCODINGS))
    quote = draw(st.sampled_from("\"'"))
    eol = draw(st.sampled_from(["\n", "\r\n"]))
    step = draw(st.sampled_from(["  ", "    ", "\t", ""]))
    end = draw(st.sampled_from([" />", "/>", "></add>"]))
    nodes = draw(st.lists(NODE, unique=True, max_size=6))
    values = {f"{node}_SyncClient.cer": draw(st.sampled_from([VALUE, "T0xE", ""])) for node in nodes}
    flag = draw(st.sampled_from(["0", "1", "", "true"]))

    def line(depth: int, text: str) -> str:
        between = draw(st.one_of(st.just(""), COMMENT.map(lambda c: step * depth + c + eol), st.just(eol)))
        return f"{between}{step * depth}{text}{draw(st.sampled_from(['', ' ', '<!-- here -->']))}{eol}"

    def add(key: str, name: str, value: str) -> str:
        return f"<add key={quote}{key}{quote} {name}={written(value, quote)}{end}"

    body = line(1, "<appSettings>")
    body += line(2, add("Other", "value", draw(WORD)))
    body += line(2, add("LoadBalanced", "value", flag))
    body += line(1, "</appSettings>") + line(1, "<ektron.serviceModel>") + line(2, "<publickCertKeys>")
    body += line(3, add("Stranger.cer", "encodedValue", "QQ=="))
    body += "".join(line(3, add(key, "encodedValue", value)) for key, value in values.items())
    body += line(2, "</publickCertKeys>") + line(1, "</ektron.serviceModel>")
    head = declaration + draw(BLANKS) if declaration else ""
    text = f"{head}<configuration>{eol}{body}</configuration>{draw(BLANKS)}"
    return Generated(bom + text.encode(codec), bom, codec, flag, values)


def edit_service(data: bytes, nodes: Sequence[str], value: str = VALUE) -> Edit:
    """The service's configuration with a key of that value for each node."""
    target = Target(node="X", nodes=nodes, is_origin=False, hashes={}, thumbprint=thumbprint(value))
    return edited(ConfigFile.SERVICE, Content(data), target, value)


def edit_asset(data: bytes) -> Edit:
    """AssetManagement.config with its flag."""
    target = Target(node="X", nodes=("X",), is_origin=False, hashes={}, thumbprint="")
    return edited(ConfigFile.ASSET, Content(data), target, "")


def undone(generated: Generated, output: bytes, absent: list[str]) -> bytes:
    """The output with every change reverted, by patterns that are independent of the editor."""
    assert output.startswith(generated.bom)
    text = output[len(generated.bom) :].decode(generated.codec)
    for key in absent:
        new = rf"\s*<add key=(['\"]){re.escape(key)}\1 encodedValue=\1{VALUE}\1 ?(?:/>|></add>)"
        text, count = re.subn(new, "", text)
        assert count == 1
    for key, value in generated.values.items():
        text = re.sub(rf"(<add key=(['\"]){re.escape(key)}\2 encodedValue=\2){VALUE}", rf"\g<1>{value}", text)
    text = re.sub(r"(<add key=(['\"])LoadBalanced\2 value=\2)1", rf"\g<1>{generated.flag}", text)
    return generated.bom + text.encode(generated.codec)


@settings(max_examples=examples(whole=300, sample=40))
@given(configs(), st.lists(NODE, unique=True, max_size=8), st.data())
def test_nothing_else_changes(generated: Generated, others: list[str], data: st.DataObject) -> None:
    """Reverting the edits gives the exact input, and a second edit changes nothing."""
    known = [key.removesuffix("_SyncClient.cer") for key in generated.values]
    chosen = data.draw(st.lists(st.sampled_from(known), unique=True)) if known else []
    nodes = list(dict.fromkeys([*chosen, *others]))
    wanted = [f"{node}_SyncClient.cer" for node in nodes]
    absent = [key for key in wanted if key not in generated.values]
    edit = edit_service(generated.data, nodes)
    untouched = Generated(
        generated.data,
        generated.bom,
        generated.codec,
        generated.flag,
        {key: value for key, value in generated.values.items() if key in wanted},
    )
    assert undone(untouched, edit.data, absent) == generated.data
    again = edit_service(edit.data, nodes)
    assert (again.data, again.changed) == (edit.data, False)


@settings(max_examples=examples(whole=100, sample=25))
@given(configs(), st.lists(NODE, unique=True, min_size=1, max_size=8))
def test_what_is_written_is_read(generated: Generated, nodes: list[str]) -> None:
    """After an edit the reader sees the flag and one key with the right value for every node."""
    seen = read_service(Content(edit_service(generated.data, nodes).data))
    assert seen.load_balanced == "1"
    assert len({seen.key_thumbprints[node] for node in nodes}) == 1
    assert seen.duplicated_keys == ()


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """A file with bytes inserted or removed at one place, or any bytes."""
    original = draw(st.one_of(st.binary(max_size=200), configs().map(lambda c: c.data)))
    place = draw(st.integers(0, len(original)))
    return original[:place] + draw(st.binary(max_size=4)) + original[place + draw(st.integers(0, 3)) :]


@settings(max_examples=examples(whole=300, sample=40))
@given(damaged_files())
@example(b"")
@example(b"\0\0\0\0")
@example(b"<DocumentManagerData/>")
@example(b"<DocumentManagerData LoadBalanced='0' LoadBalanced='1'/>")
@example(b"<DocumentManagerData a='&#0;'/>")
@example(b"<DocumentManagerData a='&#xD800;'/>")  # a surrogate, which is no character
@example(b"<?xml version='1.0' encoding='shift_jis'?><DocumentManagerData a='\x5c'/>")  # read in two ways
@example("\ufeff<DocumentManagerData/>".encode("utf-16-le")[:-1])  # half a character
@example(b"\xff\xfe<\0\x00\xd8")  # half of a surrogate pair
@example(b"<DocumentManagerData\x0c/>")  # white space that XML does not have
@example("<DocumentManagerData\u00a0a='1'/>".encode())  # the same
@example(b"<DocumentManagerData><!-- -- --></DocumentManagerData>")
def test_damaged_files_are_refused_or_edited(damaged: bytes) -> None:
    """A damaged file is edited with a stable result, or refused; no other error is raised."""
    for edit in (edit_asset, lambda d: edit_service(d, ["A"])):
        once = outcome(edit, damaged)
        if isinstance(once, ConfigRefused):
            assert once.message
            assert once.remedy
        else:
            assert not edit(once.data).changed


def outcome(edit: Callable[[bytes], Edit], data: bytes) -> Edit | ConfigRefused:
    """The edit, or the refusal as a value."""
    try:
        return edit(data)
    except ConfigRefused as refusal:
        return refusal


def seconds_for(nodes: int, *, present: bool) -> float:
    """Processor time of an edit with that many keys, added or replaced; the best of three."""
    names = [f"WEB{i:05}" for i in range(nodes)]
    data = b"<configuration><appSettings/><ektron.serviceModel><publickCertKeys/></ektron.serviceModel></configuration>"
    if present:
        data = edit_service(data, names, "QUJD" * 230).data
    timings = []
    for _ in range(3):
        started = time.thread_time()
        edit = edit_service(data, names, "TUlJ" * 230)
        timings.append(time.thread_time() - started)
        assert edit.changed
    return min(timings)


@pytest.mark.parametrize("present", [False, True], ids=["added", "replaced"])
def test_the_time_of_an_edit_grows_with_the_number_of_keys(*, present: bool) -> None:
    """Eight times as many keys take about eight times as long; a quadratic edit would take sixty-four times."""
    assert seconds_for(1600, present=present) < 24 * seconds_for(200, present=present)


def test_hostile_sizes_end_quickly() -> None:
    """Unclosed quotes, comments and very long names are refused in linear time."""
    started = time.thread_time()
    for hostile in (b"<a " + b"b='" * 200_000, b"<!--" * 200_000, b"<" + b"a" * 2_000_000, b"<?x " * 200_000):
        with pytest.raises(ConfigRefused):
            edit_asset(hostile)
    with pytest.raises(ConfigRefused, match="limit"):
        edit_asset(b"<a/>" + b" " * (16 * 2**20))
    assert time.thread_time() - started < 5
