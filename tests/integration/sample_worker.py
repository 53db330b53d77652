"""An app with the product's configuration and a few tasks, loaded by the worker processes of test_worker_process.py."""

import time

from celery import chord, group

from workers import logs
from workers.celery_app import make_app
from workers.redis.connection import connect, with_retries
from workers.settings import load_settings

settings = load_settings()
logs.configure(settings.log_level)
app = make_app(settings, control=("sample.control", "sample.joined", "sample.broken", "sample.wave"))
client = connect(settings.store())


def say(place: str, words: str | int) -> None:
    """Keeps a word in a list, whatever becomes of the connection."""
    with_retries(lambda: client.rpush(place, words), 30)


@app.task(name="sample.step")  # type: ignore[untyped-decorator]  # celery has no types
def step(number: int, seconds: float) -> int:
    """Takes a while, and records its begin and its end."""
    say("began", f"step {number}")
    time.sleep(seconds)
    say("ended", f"step {number}")
    return number


@app.task(name="sample.control")  # type: ignore[untyped-decorator]  # celery has no types
def control() -> None:
    """Records that it ended."""
    say("ended", "control")


@app.task(name="sample.joined")  # type: ignore[untyped-decorator]  # celery has no types
def joined(results: list[int]) -> None:
    """A chord's body."""
    say("joined", len(results))


@app.task(name="sample.broken")  # type: ignore[untyped-decorator]  # celery has no types
def broken(failed: str) -> None:
    """The body's errback."""
    say("joined", f"errback of {failed}")


@app.task(name="sample.wave")  # type: ignore[untyped-decorator]  # celery has no types
def wave(steps: int, seconds: float) -> None:
    """Publishes a chord, as the product does: from a worker."""
    chord(group(step.si(number, seconds) for number in range(steps)))(joined.s().on_error(broken.s()))
