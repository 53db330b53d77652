"""Causes that end a sync and have no state on a simulated server: where the sync ends, and its message.

The numbers are the rows of the failure table (ektron-facts 6).
"""

from dataclasses import dataclass

from lab.machine.faults import CauseName

__all__ = ["CAUSES", "Cause"]


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause: row of the failure table, phase of the sync that fails, and the message there."""

    row: int
    phase: str
    message: str


CAUSES: dict[CauseName, Cause] = {
    "proxy": Cause(13, "Initialization", "The remote server returned an error: (407) Proxy Authentication Required."),
    "max_index": Cause(17, "Initialization", "Max index do not match."),
    "duplicate_server_index": Cause(18, "Initialization", "Invalid server index: both sides have the same."),
    "not_staged": Cause(19, "Database", "The remote position is NOT staged."),
    "storage_location": Cause(20, "AssetLibrary", "Object reference not set to an instance of an object."),
    "memory": Cause(22, "Database", "Exception of type 'System.OutOfMemoryException' was thrown."),
    "conflict": Cause(23, "Database", "DeleteCommand failed for table 'content'."),
    "foreign_key": Cause(24, "Database", "The INSERT statement conflicted with a FOREIGN KEY constraint."),
    "licence": Cause(35, "Initialization", "The license key does not allow eSync."),
    "connection_string": Cause(36, "Initialization", "The site details were not found for the connection string."),
    "catalogs": Cause(37, "UpdatingSearchCatalogs", "The search catalogs could not be updated."),
}
