"""The one place that retries a step, within its budget of time."""

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from tasks.cluster import Retries
from tasks.execution.budget import Budget
from workers.errors import EsyncError

__all__ = ["retrying"]


def retrying(retries: Retries, budget: Budget) -> Retrying:
    """Attempts of a step, as the policy wants them: the step observes first, so that is safe after any failure."""

    def spent(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        worth = retries.attempts(error.failure) if isinstance(error, EsyncError) else 0
        return state.attempt_number >= worth or state.upcoming_sleep >= budget.left

    return Retrying(
        stop=spent,
        wait=wait_random_exponential(multiplier=retries.backoff, max=retries.longest),
        retry=retry_if_exception(lambda error: isinstance(error, EsyncError)),
        sleep=budget.sleep,
        reraise=True,
    )
