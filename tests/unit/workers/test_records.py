"""Records: what they keep, and that they are equal after they were read again."""

from workers.records import Change, Endpoint, SmallRecord
from workers.winrm.greeting import Drive

_SMALL: tuple[SmallRecord, ...] = (
    Change(what="LoadBalanced", after="1"),
    Endpoint(node="P1", host="p1.example.org", user="deploy", secret="env:PASSWORD"),
    Drive(name="C:", free=7),
)


def test_a_small_record_does_not_keep_which_fields_were_given() -> None:
    """What is read, made and copied is the same without their names."""
    for made in _SMALL:
        read = type(made).model_validate_json(made.to_json())
        assert (made, made) == (read, read.model_copy(update={}))
        assert set() == made.model_fields_set == read.model_fields_set
    assert Change(what="a", after="2") == Change(what="a").model_copy(update={"after": "2"})
