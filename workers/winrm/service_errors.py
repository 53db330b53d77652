"""What to do when Windows does not start or stop a service, by the number of the system's error."""

__all__ = ["service_remedy"]

_RETRY = "then retry: the restart stays owed"
_REMEDIES = {
    2: "the program of the service is missing: compare its path (sc qc NAME) with the disk, repair the installation",
    3: "the folder of the service's program is missing: compare its path (sc qc NAME) with the disk",
    5: "the account may not do this, or may not read the service's program: use an administrator, check the rights",
    193: "the program of the service is damaged or not for this Windows: repair the installation",
    1051: "other services that depend on it are running: stop them first",
    1053: "the service did not answer in time: look for an error of the .NET runtime in the event log (Application)",
    1054: "the service could not create a thread: the machine is short of memory, free some",
    1055: "another program has locked the list of services: close installers and the services console",
    1058: "set the start type of the service to automatic (sc config NAME start= auto)",
    1066: "the service ended with an error of its own: read its event log (EktronL2)",
    1067: "the process of the service ended, perhaps by its configuration: read the event logs (Application, EktronL2)",
    1068: "a service that it depends on does not start: see its list (sc qc NAME), start that one first",
    1069: "the password of the service's account is wrong or has expired: set it again (services.msc, Log On)",
    1070: "the service hung while it was starting: read its event log (EktronL2)",
    1072: "the service is marked for deletion: close the services console, or restart the server",
    1075: "a service that it depends on does not exist: see its list (sc qc NAME)",
    1079: "the account of the service differs from that of other services in the same process: set it again",
    1385: "the account of the service may not log on as a service: grant that right in the security policy",
}


def service_remedy(code: object) -> str:
    """What an operator does about an error of the service control manager; empty if it is not known.

    Args:
        code: the number as the node reports it; anything else than a known number is ignored.
    """
    known = _REMEDIES.get(code, "") if isinstance(code, int) else ""
    return f"{known}, {_RETRY}" if known else ""
