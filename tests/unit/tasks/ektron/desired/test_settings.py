"""One table for the plan and the edit: for any file, the plan finds a difference exactly where the edit changes it."""

import base64

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from tasks.ektron.certificates.family import thumbprint
from tasks.ektron.config.editors import Edit
from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import ConfigFile, paths_of, read_at_start
from tasks.ektron.desired.settings import edited, file_facts
from tasks.ektron.desired.target import Target
from tasks.ektron.editions import edition_of, lay_out
from tasks.ektron.facts.values import FileFacts
from tasks.ektron.refusals import ConfigRefused
from tests.sampling import examples
from tests.unit.tasks.ektron.configured import configuration_of, content, differences_of
from tests.unit.tasks.ektron.joined import joined_node

VALUE = base64.b64encode(b"the family's certificate").decode()
NODES = ("S1", "P1", "K-1")
TARGET = Target(node="P1", nodes=NODES, is_origin=True, hashes={}, thumbprint=thumbprint(VALUE))


def mostly(right: str, *wrong: str) -> st.SearchStrategy[str]:
    """The right value, or one of those that only look like it."""
    return st.sampled_from([right] * (2 * len(wrong)) + list(wrong))


FLAGS = mostly("1", "", "0", " 1", "true", "1\u200b")
CERTIFICATES = mostly(VALUE, f"{VALUE}\n", f" {VALUE}", VALUE.rstrip("="), VALUE.lower(), "T0xE", "%", "")
SERVER_NAMES = mostly("P1_SyncServer.pfx", "p1_syncserver.PFX", "S1_SyncServer.pfx", "P1_SyncClient.pfx", "")
CLIENT_NAMES = mostly("P1_SyncClient.pfx", "p1_syncclient.PFX", "S1_SyncClient.pfx", "P1_SyncServer.pfx", "")
OTHER_KEYS = [
    "p1_syncclient.CER",
    "\u017f1_SyncClient.cer",  # folds to the name of S1
    "K-1_SyncServer.cer",
    "K_SyncClient.cer",
    "EktronSyncClient.cer",
    "_SyncClient.cer",
]
LIKELY = st.sampled_from([True] * 9 + [False])


def element(name: str, attributes: dict[str, str], inner: str = "") -> str:
    """An element as XML text."""
    escaped = {key: value.replace("&", "&amp;").replace("\n", "&#10;") for key, value in attributes.items()}
    text = "".join(f' {key}="{value}"' for key, value in escaped.items())
    return f"<{name}{text}>{inner}</{name}>" if inner else f"<{name}{text}/>"


@st.composite
def collections(
    draw: st.DrawFn, name: str, keys: tuple[str, list[str], list[str]], value: str, values: st.SearchStrategy[str]
) -> str:
    """A collection with an `add` for most of the right keys, then others: twice, without a value, removed, cleared."""
    key, right, other = keys
    entries = [element("add", {key: one, value: draw(values)}) for one in right if draw(LIKELY)]
    if not draw(LIKELY):
        one = draw(st.sampled_from([*right, *other]))
        value_of_it = {value: draw(values)} if draw(LIKELY) else {}
        more = [element("add", {key: one, **value_of_it}), element("remove", {key: one}), element("clear", {})]
        entries.insert(draw(st.integers(0, len(entries))), draw(st.sampled_from(more)))
    source = {} if draw(LIKELY) else draw(st.sampled_from([{"file": "Other.config"}, {"configSource": "O.config"}]))
    return element(name, source, "".join(entries))


@st.composite
def files(draw: st.DrawFn) -> tuple[ConfigFile, bytes]:
    """One of the configuration files: right, wrong in some places, or not whole."""
    file = draw(st.sampled_from(ConfigFile))
    if file is ConfigFile.ASSET:
        name = draw(mostly("LoadBalanced", "loadBalanced", "Other"))
        return file, element("DocumentManagerData", {name: draw(FLAGS)}).encode()
    keys = [f"{node}_SyncClient.cer" for node in NODES]
    contracts = ["IScheduleService", "ISyncQueueService"]
    if file is ConfigFile.WEB:
        settings_of = draw(collections("appSettings", ("key", ["encodedValue"], ["other"]), "value", CERTIFICATES))
        inner = [draw(collections("endPoints", ("contract", contracts, []), "clientCertificate", CLIENT_NAMES))]
    else:
        settings_of = draw(collections("appSettings", ("key", ["LoadBalanced"], ["other"]), "value", FLAGS))
        inner = [draw(collections("publickCertKeys", ("key", keys, OTHER_KEYS), "encodedValue", CERTIFICATES))]
    service = element("SyncService", {"serverCertificate": draw(SERVER_NAMES)} if draw(LIKELY) else {})
    inner.append(element("services", {}, service))
    model = element("ektron.serviceModel", {}, "".join(one for one in inner if draw(LIKELY)))
    return file, element("configuration", {}, "".join(one for one in (settings_of, model) if draw(LIKELY))).encode()


def service_of(keys: str) -> tuple[ConfigFile, bytes]:
    """A service configuration with these entries."""
    model = f"<ektron.serviceModel><publickCertKeys>{keys}</publickCertKeys></ektron.serviceModel>"
    return ConfigFile.SERVICE, f"<configuration><appSettings/>{model}</configuration>".encode()


@settings(max_examples=examples(whole=3000, sample=100))
@given(files())
@example(service_of("<add key='\u212a-1_SyncClient.cer' encodedValue='QQ=='/>"))
@example(service_of(f"<add key='P1_SyncClient.cer' encodedValue='{VALUE} '/>"))
@example(service_of(f"<add key='S1_SyncClient.cer'/><add key='s1_SyncClient.cer' encodedValue='{VALUE}'/>"))
@example((ConfigFile.EWS, b"<configuration><ektron.serviceModel/></configuration>"))
def test_a_difference_is_found_exactly_where_the_edit_changes_the_file(made: tuple[ConfigFile, bytes]) -> None:
    """No difference, no changed byte, and the reverse; after the edit there is no difference, nor a second edit."""
    file, data = made
    edit = outcome(file, data, TARGET, VALUE)
    event(f"{file} {'refused' if isinstance(edit, ConfigRefused) else 'changed' if edit.changed else 'unchanged'}")
    if isinstance(edit, ConfigRefused):
        assert edit.remedy
        return
    assert edit.changed is bool(differences_of(file, Content(data), TARGET))
    assert edit.changed is (edit.data != data)
    assert differences_of(file, Content(edit.data), TARGET) == []
    again = edited(file, Content(edit.data), TARGET, VALUE)
    assert (again.changed, again.data) == (False, edit.data)


@settings(max_examples=examples(whole=500, sample=40))
@given(files(), st.sampled_from(NODES))
def test_whether_an_edit_is_possible_does_not_depend_on_the_certificate(
    made: tuple[ConfigFile, bytes], node: str
) -> None:
    """A file that is refused with one certificate is refused with any other, with the same words."""
    file, data = made
    other = Target(node=node, nodes=NODES, is_origin=False, hashes={}, thumbprint="")
    first, second = outcome(file, data, TARGET, VALUE), outcome(file, data, other, "TUlJQw==")
    assert isinstance(first, ConfigRefused) is isinstance(second, ConfigRefused)
    if isinstance(first, ConfigRefused):
        assert str(first) == str(second)


def outcome(file: ConfigFile, data: bytes, target: Target, certificate: str) -> Edit | ConfigRefused:
    """The edit, or the refusal as a value."""
    try:
        return edited(file, Content(data), target, certificate)
    except ConfigRefused as refusal:
        return refusal


def test_only_files_that_are_asked_for_are_compared() -> None:
    """Of a node where every file is wrong, one file's differences are those of that file; the others come in order."""
    flag_off = b"<DocumentManagerData LoadBalanced='0'/>"
    wrong = {file: Content(service_of("")[1]) for file in ConfigFile} | {ConfigFile.ASSET: Content(flag_off)}
    facts = configuration_of(wrong, NODES)
    assert [file_facts(facts, file).exists for file in ConfigFile] == [True] * 4
    for file in ConfigFile:
        found = differences_of(file, wrong[file], TARGET)
        assert {file_facts(facts, file).path} == {difference.file for difference in found}
        assert {file.read_at_start} == {difference.read_at_start for difference in found}


def test_a_node_without_an_ews_copy_has_no_differences_there() -> None:
    """No copy was asked for, or none is there: nothing is compared. A copy that is there is."""
    facts = joined_node("P1")
    assert file_facts(facts, ConfigFile.EWS) == FileFacts(path="")
    assert differences_of(ConfigFile.EWS, Content(service_of("")[1]), TARGET) != []


@pytest.mark.parametrize("origin", [True, False])
def test_only_the_origin_has_an_ews_copy(*, origin: bool) -> None:
    """The paths of the files are the layout's, in the order in which they are written: web.config is the last."""
    layout = lay_out(edition_of("8.0"), site_path=r"C:\site")
    paths = paths_of(layout, is_origin=origin)
    three = [layout.asset_config, layout.service_config, layout.web_config]
    assert [*three, layout.ews_config][: 4 if origin else 3] == list(paths.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("{site}\\AssetManagement.config", True),
        ("{site}\\ASSETMANAGEMENT.CONFIG", True),
        ("{site}\\web.config", False),
        ("{site}\\S1_SyncClient.cer", False),
        ("{service}\\Ektron.ASM.EktronServices30.exe.config", True),
        ("{service}\\S1_SyncClient.cer", True),
        ("{service}\\S1_SYNCSERVER.PVK", True),
        ("{service}\\data.config", False),
        ("{service}\\sub\\S1_SyncClient.cer", False),
        ("{ews}", False),
    ],
)
def test_what_the_service_reads_when_it_starts(name: str, *, expected: bool) -> None:
    """Its two configurations and the certificate files beside it, in any case; nothing in other folders."""
    layout = lay_out(edition_of("8.0"), site_path=r"C:\site")
    path = name.format(site=layout.site, service=layout.service_folder, ews=layout.ews_config)
    assert read_at_start(layout, path) is expected


def test_the_bytes_of_a_file_are_described_as_the_agent_replied() -> None:
    """Size, hash and time are the reply's own; a file that cannot be understood keeps them and says why."""
    broken = b"<configuration>"
    file = configuration_of({ConfigFile.WEB: Content(broken)}, NODES).web.file
    assert (file.exists, file.size, file.hash) == (True, len(broken), content(broken)["hash"])
    assert "not well-formed" in file.problem
