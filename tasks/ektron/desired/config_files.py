"""The configuration files that a run edits, and which files the service reads when it starts."""

from enum import StrEnum

from tasks.ektron.certificates.family import node_of
from tasks.ektron.config.sections import ASSET_ROOT
from tasks.ektron.editions import Layout

__all__ = ["ConfigFile", "paths_of", "read_at_start"]


class ConfigFile(StrEnum):
    """The configuration files that a run edits. The value is the name of the fact."""

    ASSET = "asset"
    SERVICE = "service_config"
    WEB = "web"
    EWS = "ews"  #: the EWSUpdates copy of the service's configuration, on the origin

    @property
    def root(self) -> str:
        """Name of the root element."""
        return ASSET_ROOT if self is ConfigFile.ASSET else "configuration"

    @property
    def stat(self) -> str:
        """Name of the question for the file's times and attributes."""
        return f"{self} stat"

    def includes(self, name: str) -> str:
        """Name of the question for the bytes of a file that it includes."""
        return f"{self} includes {name}"

    def stat_of(self, name: str) -> str:
        """Name of the question for the state of a file that it includes."""
        return f"{self} includes {name}: stat"

    @property
    def read_at_start(self) -> bool:
        """Whether the service reads it when it starts."""
        return self in {ConfigFile.ASSET, ConfigFile.SERVICE}


def paths_of(layout: Layout, *, is_origin: bool) -> dict[ConfigFile, str]:
    """Where the configuration files of a node are. Some builds have no EWSUpdates copy (ektron-facts 9)."""
    paths = {
        ConfigFile.ASSET: layout.asset_config,
        ConfigFile.SERVICE: layout.service_config,
        ConfigFile.WEB: layout.web_config,
    }
    return paths | ({ConfigFile.EWS: layout.ews_config} if is_origin else {})


def read_at_start(layout: Layout, path: str) -> bool:
    """Whether the service reads this file when it starts: its two configurations and the certificates beside it."""
    if path.casefold() in {layout.asset_config.casefold(), layout.service_config.casefold()}:
        return True
    folder, _, name = path.rpartition("\\")
    return folder.casefold() == layout.service_folder.casefold() and node_of(name) is not None
