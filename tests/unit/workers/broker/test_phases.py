"""The phase of a task is sent as an event about the task that the thread runs."""

from concurrent.futures import ThreadPoolExecutor

from workers.broker.phases import accepted, report_phase


def test_a_phase_is_sent_for_the_task_of_its_thread() -> None:
    """Each thread reports for the task that it accepted last."""
    sent: list[tuple[str, str]] = []

    def run(task: str) -> None:
        accepted(lambda event: sent.append((task, event)))
        report_phase("observing")

    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        first.submit(run, "a").result()
        second.submit(run, "b").result()
        first.submit(report_phase, "applying").result()
        first.submit(run, "c").result()
    assert [("a", "task-observing"), ("b", "task-observing"), ("a", "task-applying"), ("c", "task-observing")] == sent


def test_without_a_task_nothing_is_sent() -> None:
    """Outside of a worker a phase is not an error."""
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(report_phase, "observing").result() is None
