"""All facts of one node, as one value: the input of all rules. Facts contain no secrets."""

import hashlib
import json
from typing import Any

from pydantic import AwareDatetime

from tasks.ektron.facts.access import PlaceFacts
from tasks.ektron.facts.configuration import ConfigurationFacts
from tasks.ektron.facts.generated import GeneratedFacts
from tasks.ektron.facts.machine import BinaryFacts, ProbeFacts, ReadinessFacts, SystemFacts
from tasks.ektron.facts.old_places import OldPlace
from tasks.ektron.facts.service import ServiceEvidence
from tasks.ektron.facts.values import CertificateFacts, Fact, Spread

__all__ = ["NodeFacts"]


_VOLATILE = (
    "observed_at", "clock", "skew", "probes", "generated", "system", "readiness",
    "newest_input", "newest_input_path", "newest_change", "newest_change_path", "asked", "inputs", "start_record",
    "places", "other_services",
)  # fmt: skip


#: Facts that versions after the first one added. They count only where they say something, so that the fingerprints of
#: older facts, in plans and bundles, stay the same.
_LATER = frozenset({
    "product_folder", "partner_family", "old_places", "other_keys", "included", "elsewhere", "encrypted",
    "asset_source", "connection_cipher", "connection_problem", "offloaded", "service_model",
    "renamed_copies",
})  # fmt: skip


class NodeFacts(ConfigurationFacts, ServiceEvidence):
    """All facts of one node at one time."""

    node: str
    computer: str = ""  #: the name that the machine reports
    observed_at: AwareDatetime  #: by the clock of the run store
    clock: AwareDatetime  #: by the clock of the node; of every evidence, not only that of the service
    #: seconds by which the node is certainly ahead of the run store; 0 within the time of the exchange
    skew: float = 0.0
    program_data: str = r"C:\ProgramData"
    system_drive: str = "C:"
    service_folder: str = ""
    product_folder: str = ""  #: on the origin, where the product was found, if not beside the service
    configurator_folder: str = ""  #: on the origin, where the Security Configurator writes its files
    binaries: tuple[BinaryFacts, ...] = ()
    precompiled: bool = False
    site_exists: bool = True
    origin_family: dict[str, str] = {}  #: on the origin: kind -> hash of the files that the Security Configurator wrote
    origin_problem: str = ""  #: why those six files do not form a family
    client: CertificateFacts | None = None  #: of the node's own SyncClient.cer in the service folder
    server: CertificateFacts | None = None
    service_family: dict[str, Spread] = {}  #: kind (`SyncClient.pfx`, ...) -> hashes in the service folder
    partner_family: dict[str, Spread] = {}  #: kind -> hashes of the partners' files in the service folder
    configurator_family: dict[str, Spread] = {}  #: the same in the folder of the configurator, on the origin
    web_root_family: dict[str, str] = {}  #: kind -> hash of the node's own SyncClient files in the site root
    staging_files: tuple[str, ...] | None = None  #: names in `Ektron Security Certificates`; None: no folder
    staging_family: dict[str, str] = {}  #: kind -> hash of the node's own files in that folder
    places: tuple[PlaceFacts, ...] = ()  #: what a rollout writes to
    leftovers: tuple[str, ...] = ()  #: temporary files of this program
    renamed_copies: tuple[str, ...] = ()  #: files in the service folder with a node's bytes under other servers' names
    other_services: tuple[str, ...] = ()  #: services of other generations that are not stopped
    old_places: tuple[OldPlace, ...] = ()  #: folders not in use any more that hold certificate files
    probes: ProbeFacts = ProbeFacts()
    generated: GeneratedFacts = GeneratedFacts()
    system: SystemFacts | None = None
    readiness: ReadinessFacts | None = None  #: None: not requested

    def comparable(self) -> dict[str, object]:
        """The facts on which a plan is based, as data: no times, and nothing that depends on the clock or network."""
        volatile: dict[str, Any] = dict.fromkeys(_VOLATILE, True)
        volatile |= {"asset": {"file": {"mtime"}}}
        volatile |= {
            part: {"file": {"mtime"}, "included": {"__all__": {"mtime"}}} for part in ("service_config", "web", "ews")
        }
        volatile |= {"service": {"pid", "started", "state", "left_stopped"}}
        whole = self.model_dump(mode="json", exclude=volatile)
        parts = {name: part for name in ("service_config", "web", "ews") if (part := getattr(self, name)) is not None}
        return _said(self, whole | {name: _said(part, whole[name]) for name, part in parts.items()})

    def fingerprint(self) -> str:
        """Digest of `comparable`."""
        return hashlib.sha256(json.dumps(self.comparable(), sort_keys=True).encode()).hexdigest()


def _said(facts: Fact, data: dict[str, Any]) -> dict[str, Any]:
    """The data of facts without those of `_LATER` that have their defaults."""
    silent = {
        name
        for name, field in type(facts).model_fields.items()
        if name in _LATER and getattr(facts, name) == field.default
    }
    return {name: value for name, value in data.items() if name not in silent}
