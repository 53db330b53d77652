"""What a process remembers, and what it forgets first."""

from hypothesis import given
from hypothesis import strategies as st

from workers.remembered import Remembered


def test_the_values_used_last_are_remembered() -> None:
    """Above the weight, the value that was not used for the longest time is forgotten."""
    known: Remembered[int] = Remembered(3)
    for number in range(3):
        known.put(str(number), number)
    assert 0 == known.get("0")
    known.put("3", 3)
    assert [0, None, 2, 3] == [known.get(str(number)) for number in range(4)]


def test_a_value_that_is_too_heavy_is_not_remembered() -> None:
    """It is returned, replaces its older value, and forgets nothing else."""
    known: Remembered[str] = Remembered(10)
    known.put("a", "old")
    known.put("b", "kept")
    assert "new" == known.put("a", "new", 11)
    assert (None, "kept") == (known.get("a"), known.get("b"))


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 8)), max_size=60))
def test_the_weight_is_never_exceeded(puts: list[tuple[str, int]]) -> None:
    """Whatever is put, replaced and forgotten: all remembered values together weigh no more than allowed."""
    known: Remembered[int] = Remembered(10)
    for name, weight in puts:
        known.put(name, weight, weight)
        if weight == 0:
            known.forget(name)
        assert sum(known.get(one) or 0 for one in "abcdef") <= 10
