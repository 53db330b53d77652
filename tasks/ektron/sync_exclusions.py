"""Files that no sync copies, so that they have to be set up on each machine (ektron-facts 5)."""

from pathlib import PureWindowsPath

__all__ = ["why_never_synced"]

_CERTIFICATES = {".pfx", ".pvk", ".cer"}
_FOLDERS = {"app_globalresources", "app_webreferences"}  #: excluded from template syncs
_WORKAREA = {  #: folders below Workarea that are excluded from workarea syncs
    "ewebeditpro",
    "help",
    "explorer",
    "ewebdiff",
    "documents",
    "foundation",
    "resources",
    "sync",
}


def why_never_synced(path: str) -> str:
    """Why no sync copies a file, given its path below the site root; empty when a sync may copy it."""
    file = PureWindowsPath(path)
    folders = [part.casefold() for part in file.parts[:-1]]
    if file.suffix.casefold() == ".config":
        return "no sync copies .config files; they are edited on each server"
    if file.suffix.casefold() in _CERTIFICATES:
        return "no sync is known to copy certificate files; they are copied to each server"
    if folders and folders[0] in _FOLDERS:
        return f"no sync copies {file.parts[0]}"
    if folders[:1] == ["workarea"] and len(folders) > 1 and folders[1] in _WORKAREA:
        return f"no sync copies Workarea\\{file.parts[1]}"
    return ""
