"""What no sync ever carries, so that it has to be set up on each machine (ektron-facts 5)."""

from pathlib import PureWindowsPath

__all__ = ["never_travels"]

_FOLDERS = {"app_globalresources", "app_webreferences"}  #: left out of template syncs
_WORKAREA = {
    "ewebeditpro",
    "help",
    "explorer",
    "ewebdiff",
    "documents",
    "foundation",
    "resources",
    "sync",
}  #: left out of workarea syncs
_CERTIFICATES = {".pfx", ".pvk", ".cer"}


def never_travels(path: str) -> str:
    """Why no sync carries a file, given its path below the site root; empty where one may."""
    file = PureWindowsPath(path)
    folders = [part.casefold() for part in file.parts[:-1]]
    if file.suffix.casefold() == ".config":
        return "no sync carries .config files; they are edited on each server"
    if file.suffix.casefold() in _CERTIFICATES:
        return "no sync is known to carry certificate files; they are copied to each server"
    if folders and folders[0] in _FOLDERS:
        return f"no sync carries {file.parts[0]}"
    if folders[:1] == ["workarea"] and len(folders) > 1 and folders[1] in _WORKAREA:
        return f"no sync carries Workarea\\{file.parts[1]}"
    return ""
