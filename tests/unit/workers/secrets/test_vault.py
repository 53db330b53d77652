"""The vault: references, sealed material, fingerprints."""

import json
import logging
import os
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import InputRefused, SecretUnavailable
from workers.records import DocumentKind, RunRecord
from workers.secrets.vault import Vault, new_seal_key
from workers.settings import Secret
from workers.store.memory import MemoryStore

PLANTED = "Pl4nted-Passw0rd"


def a_store() -> MemoryStore:
    """A store with run r1."""
    store = MemoryStore()
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    return store


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """A vault with a key and a run r1; its secrets may be below the folder of the test."""
    return Vault(a_store(), new_seal_key(), folders=(tmp_path,))


class TestReveal:
    """References become secrets."""

    def test_a_variable_is_revealed(self, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
        """env:NAME is the exact value of the variable."""
        monkeypatch.setenv("SHOP_PASSWORD", f" {PLANTED}\n")
        assert f" {PLANTED}\n" == vault.reveal("env:SHOP_PASSWORD").reveal()

    @pytest.mark.parametrize(
        ("content", "secret"),
        [
            (b"abc\n", "abc"),
            (b"abc\r\n", "abc"),
            (b"abc\n\n", "abc\n"),
            (b"abc", "abc"),
            (b" a b ", " a b "),
            (b"\xef\xbb\xbfabc\n", "abc"),
            ("pässword\n".encode(), "pässword"),
        ],
    )
    def test_a_file_is_revealed_without_its_last_line_ending(
        self, vault: Vault, tmp_path: Path, content: bytes, secret: str
    ) -> None:
        """file:PATH is the text of the file without its byte order mark and its last line ending."""
        (tmp_path / "pw").write_bytes(content)
        assert secret == vault.reveal(f"file:{tmp_path}/pw").reveal()

    def test_a_relative_path_starts_at_the_cluster_file(self, vault: Vault, tmp_path: Path) -> None:
        """A path in a cluster file is relative to the folder of that file."""
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "pw").write_text("abc\n")
        assert "abc" == vault.reveal("file:secrets/pw", str(tmp_path)).reveal()

    def test_a_file_that_others_can_read_gives_a_warning(
        self, vault: Vault, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A secret file that other users can read is used with a warning, a private one without."""
        file = tmp_path / "pw"
        file.write_text(PLANTED)
        file.chmod(0o640)
        with caplog.at_level(logging.WARNING):
            vault.reveal(f"file:{file}")
        assert "chmod 600" in caplog.text
        assert PLANTED not in caplog.text
        caplog.clear()
        file.chmod(0o600)
        vault.reveal(f"file:{file}")
        assert "" == caplog.text

    @pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe" + PLANTED.encode(), b"x" * 70000])
    def test_a_file_without_a_valid_secret_is_an_error(self, vault: Vault, tmp_path: Path, content: bytes) -> None:
        """An empty, binary or large file is refused; the error has the reference and not the content."""
        (tmp_path / "pw").write_bytes(content)
        with pytest.raises(SecretUnavailable, match="file:pw") as caught:
            vault.reveal("file:pw", str(tmp_path))
        assert PLANTED not in str(caught.value)

    @pytest.mark.parametrize("reference", ["env:NOT_SET_ANYWHERE", "file:nowhere/pw", "file:."])
    def test_a_reference_to_nothing_is_named(
        self, vault: Vault, reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A missing variable, file, or a folder is an error with the reference and a remedy."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SecretUnavailable, match=reference) as caught:
            vault.reveal(reference)
        assert caught.value.remedy

    def test_an_empty_variable_is_no_secret(self, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
        """An empty variable is an error, not an empty password."""
        monkeypatch.setenv("SHOP_PASSWORD", "")
        with pytest.raises(SecretUnavailable, match="empty"):
            vault.reveal("env:SHOP_PASSWORD")

    @pytest.mark.parametrize("reference", [PLANTED, f"plain:{PLANTED}", "env:", "file:", ""])
    def test_a_secret_in_place_of_its_reference_is_not_quoted(self, vault: Vault, reference: str) -> None:
        """A text that is not a reference may be the password itself: the error does not contain it."""
        with pytest.raises(SecretUnavailable) as caught:
            vault.reveal(reference)
        assert PLANTED not in f"{caught.value!r} {caught.value.remedy}"

    def test_a_revealed_secret_is_reported_for_masking(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The callback gets each revealed secret."""
        revealed: list[Secret] = []
        monkeypatch.setenv("SHOP_PASSWORD", PLANTED)
        Vault(a_store(), None, revealed.append).reveal("env:SHOP_PASSWORD")
        assert [Secret(PLANTED)] == revealed


class TestWhereSecretsComeFrom:
    """Only files below folders that an administrator chose, and none of esync's own files."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        """A folder with the folder of the cluster file, and with a secret of another program."""
        for name in ("cluster", "etc", "state"):
            (tmp_path / name).mkdir()
        (tmp_path / "etc" / "shadow").write_text(PLANTED)
        (tmp_path / "cluster" / "pw").write_text("abc\n")
        return tmp_path

    @pytest.mark.parametrize(
        "named", ["{}/etc/shadow", "../etc/shadow", "link", "linked/shadow", "/proc/self/environ", "{}/cluster2/pw"]
    )
    def test_a_file_elsewhere_is_refused(self, home: Path, named: str) -> None:
        """Named by its path, with `..`, through a link, or in a folder whose name has the same beginning."""
        (home / "cluster" / "link").symlink_to(home / "etc" / "shadow")
        (home / "cluster" / "linked").symlink_to(home / "etc")
        (home / "cluster2").mkdir()
        (home / "cluster2" / "pw").write_text(PLANTED)
        vault = Vault(a_store(), new_seal_key())
        with pytest.raises(SecretUnavailable, match="in none of the allowed folders") as caught:
            vault.reveal("file:" + named.format(home), str(home / "cluster"))
        assert "ESYNC_SECRETS" in caught.value.remedy
        assert PLANTED not in f"{caught.value!r}{caught.value.remedy}"

    def test_without_a_cluster_file_no_file_is_a_secret(self, home: Path) -> None:
        """A run without a folder in its record reveals no file of this machine."""
        with pytest.raises(SecretUnavailable, match="in none of the allowed folders"):
            Vault(a_store(), new_seal_key()).reveal(f"file:{home}/cluster/pw")

    def test_folders_of_the_settings_are_allowed(self, home: Path) -> None:
        """ESYNC_CLUSTERS and ESYNC_SECRETS add folders; a link may lead from one to another."""
        (home / "cluster" / "link").symlink_to(home / "etc" / "shadow")
        vault = Vault(a_store(), new_seal_key(), folders=(home / "etc",))
        assert PLANTED == vault.reveal("file:link", str(home / "cluster")).reveal()

    @pytest.mark.parametrize("way", ["path", "link", "hard link", "copy", "variable", "own variable"])
    def test_the_seal_key_is_never_revealed(self, home: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """In any place and under any name."""
        key, own = new_seal_key(), home / "state" / "seal.key"
        own.write_text(key.reveal())
        other = home / "cluster" / "other"
        reference = f"file:{own}" if way == "path" else f"file:{other}"
        if way == "link":
            other.symlink_to(own)
        if way == "hard link":
            other.hardlink_to(own)
        if way == "copy":
            other.write_text(f"{key.reveal()}\n")
        for name in ("SOME_NAME", "ESYNC_SEAL_KEY"):
            monkeypatch.setenv(name, key.reveal())
        if way.endswith("variable"):
            reference = "env:SOME_NAME" if way == "variable" else "env:ESYNC_SEAL_KEY"
        vault = Vault(a_store(), key, folders=(home,), closed=(home / "state",))
        with pytest.raises(SecretUnavailable, match=r"seal key|esync's own"):
            vault.reveal(reference)

    @pytest.mark.parametrize("what", ["pipe", "device", "folder", "large"])
    def test_only_a_small_regular_file_is_a_secret(self, home: Path, what: str) -> None:
        """A file that would never end, or block, is refused at once."""
        place = home / "cluster" / "special"
        if what == "pipe":
            os.mkfifo(place)
        elif what == "folder":
            place.mkdir()
        elif what == "large":
            place.write_bytes(b"x" * 2**20)
        folders = (home, Path("/dev"))
        reference = "file:/dev/zero" if what == "device" else f"file:{place}"
        vault = Vault(a_store(), new_seal_key(), folders=folders)
        with pytest.raises(SecretUnavailable, match=r"regular|larger"):
            vault.reveal(reference)

    def test_authorities_are_in_the_same_folders_or_those_of_the_system(self, home: Path) -> None:
        """The transport opens a `ca_file`: a pipe would block the worker, and a file in another folder is refused."""
        os.mkfifo(home / "cluster" / "pipe")
        (home / "state" / "ca.pem").write_text("x")
        vault = Vault(a_store(), new_seal_key(), closed=(home / "state",))
        folder = str(home / "cluster")
        assert str(home / "cluster" / "pw") == vault.authorities("pw", folder)
        assert f"{home}/cluster/nothing" == vault.authorities(f"{home}/cluster/nothing", folder)
        for named in ("pipe", "../etc/shadow", f"{home}/state/ca.pem", "/dev/zero"):
            with pytest.raises(InputRefused, match="ca_file"):
                vault.authorities(named, folder)


class TestSeal:
    """Certificate material in the store."""

    @given(data=st.binary(max_size=4096))
    def test_sealed_data_can_be_read(self, data: bytes) -> None:
        """Any bytes are returned unchanged."""
        vault = Vault(a_store(), new_seal_key())
        vault.seal("r1", "family", data)
        assert data == vault.unseal("r1", "family")

    def test_the_store_has_no_clear_text(self) -> None:
        """The stored text contains neither the data nor its base64 form."""
        store = a_store()
        Vault(store, new_seal_key()).seal("r1", "family", PLANTED.encode())
        (text,) = store.documents("r1", DocumentKind.SEALED).values()
        assert PLANTED not in text
        assert PLANTED.encode() not in Fernet.generate_key() + text.encode()
        assert "UGw0bnRlZC" not in text

    def test_another_key_cannot_open_it(self) -> None:
        """The error for a wrong key names the setting."""
        store = a_store()
        Vault(store, new_seal_key()).seal("r1", "family", b"x")
        with pytest.raises(InputRefused, match="ESYNC_SEAL_KEY"):
            Vault(store, new_seal_key()).unseal("r1", "family")

    def test_keys_can_change(self) -> None:
        """With NEW,OLD the new key seals, and both keys open."""
        store, old, new = a_store(), new_seal_key(), new_seal_key()
        Vault(store, old).seal("r1", "family", b"before")
        both = Vault(store, Secret(f"{new.reveal()}, {old.reveal()}"))
        assert b"before" == both.unseal("r1", "family")
        both.seal("r1", "family", b"after")
        assert b"after" == Vault(store, new).unseal("r1", "family")

    def test_a_sealed_document_cannot_replace_another(self) -> None:
        """A sealed text that was copied to another name or run is refused, although the key is the same."""
        store, key = a_store(), new_seal_key()
        store.create(RunRecord(id="r2", cluster="shop", spec={}))
        vault = Vault(store, key)
        vault.seal("r1", "family", b"x")
        text = store.document("r1", DocumentKind.SEALED, "family") or ""
        for run, name in [("r1", "other"), ("r2", "family")]:
            store.put(run, DocumentKind.SEALED, name, text)
            with pytest.raises(InputRefused):
                vault.unseal(run, name)

    @pytest.mark.parametrize("text", ["", "not fernet", "größe", json.dumps({"a": 1})])
    def test_a_text_that_is_not_sealed_is_refused(self, text: str) -> None:
        """Any other text in its place cannot be opened."""
        store = a_store()
        store.put("r1", DocumentKind.SEALED, "family", text)
        with pytest.raises(InputRefused):
            Vault(store, new_seal_key()).unseal("r1", "family")

    def test_a_missing_sealed_document_is_an_error(self, vault: Vault) -> None:
        """The error has the run and the name."""
        with pytest.raises(SecretUnavailable, match=r"r1.*family"):
            vault.unseal("r1", "family")

    def test_without_a_key_nothing_can_be_sealed(self) -> None:
        """The error names the variable to set."""
        vault = Vault(a_store(), None)
        for ask in (lambda: vault.seal("r1", "family", b""), lambda: vault.digest("x")):
            with pytest.raises(SecretUnavailable) as caught:
                ask()
            assert "ESYNC_SEAL_KEY" in caught.value.remedy

    @pytest.mark.parametrize("key", ["x", PLANTED, "a" * 44, "ä" * 44, f"{'A' * 43}=,{PLANTED}"])
    def test_an_invalid_key_is_refused(self, key: str) -> None:
        """The error for a setting that is not a Fernet key does not quote it."""
        with pytest.raises(InputRefused, match="ESYNC_SEAL_KEY") as caught:
            Vault(a_store(), Secret(key))
        assert PLANTED not in f"{caught.value!r}{caught.value.__cause__!r}"


class TestDigest:
    """Fingerprints of connection strings."""

    def test_equal_texts_have_equal_fingerprints(self) -> None:
        """Workers with the same key agree; another text or another key gives another fingerprint."""
        key, other = new_seal_key(), new_seal_key()
        first = Vault(a_store(), key).digest("server=db;password=x")
        assert first == Vault(a_store(), key).digest("server=db;password=x")
        assert first != Vault(a_store(), key).digest("server=db;password=y")
        assert first != Vault(a_store(), other).digest("server=db;password=x")
        assert 64 == len(first)
