"""While a family is renewed, every node trusts the old one and the new one: each under an extra name of its own.

The service refuses two keys of one name (ektron-facts 2.2), so the second certificate cannot stand beside the first
under the name of a node. But it trusts the certificates of several servers, each under the name of its server (3.4),
and what it is shown has no name: all subjects are CN=ektron, and the validator gets nothing but the certificate (3.2).
So both families are added as if they were two more servers, which have no machine.
"""

from tasks.ektron.certificates.family import CLIENT_CER, Family, family_names

__all__ = ["EXTRA_NAMES", "NEW", "OLD", "extra_files", "extra_keys"]

OLD, NEW = "ESYNC-OLD", "ESYNC-NEW"
EXTRA_NAMES = (OLD, NEW)  #: shorter than a NetBIOS name may be, and no machine's


def extra_keys(old: Family, new: Family) -> dict[str, str]:
    """Entries of publickCertKeys: name -> encodedValue."""
    return {f"{name}_{CLIENT_CER}": family.encoded_value for name, family in ((OLD, old), (NEW, new))}


def extra_files(old: Family, new: Family) -> dict[str, bytes]:
    """The six files of each, by name: a service folder holds them for every server that it trusts."""
    return {
        name: family.blobs[name.rpartition("_")[2]]
        for extra, family in ((OLD, old), (NEW, new))
        for name in family_names(extra)
    }
