"""Facts of the places that a rollout writes to, and of where the product was looked for."""

from tasks.ektron.facts.values import Fact

__all__ = ["PlaceFacts"]


class PlaceFacts(Fact):
    """A file or folder that a rollout writes to.

    Attributes:
        writable: by the access list, for the account of the session; for a place that does not exist yet, whether the
            account may create it in `nearest`; None: unknown.
        required: a rollout does not make it: it comes with the product.
        nearest: the folder that a missing place would be created in.
        refused: names of certificate files in a folder that the account may not replace; not all of them, if many.
    """

    path: str
    exists: bool = True
    writable: bool | None = None
    required: bool = True
    nearest: str = ""
    refused: tuple[str, ...] = ()
