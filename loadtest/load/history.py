"""What a run has been told of each job, and answers that contradict it. Pure."""

from loadtest.load.client import TERMINAL, Answer
from loadtest.samples import Kind


class JobHistory:
    """Holds answers about jobs against earlier ones of the same run."""

    def __init__(self) -> None:
        self._accepted: set[str] = set()
        self._ended: dict[str, int] = {}

    def check(self, kind: Kind, answer: Answer) -> None:
        """Let an answer that contradicts an earlier one have failed, with the reason.

        ``duplicate_job_id``: a submit was answered with the id of another job. ``back_to_pending``: a job is pending
        that was seen to have ended before this was even asked.
        """
        job_id = answer.job_id
        if job_id is None or answer.outcome != "ok" or answer.job_state is None:
            return
        if kind == "submit":
            if job_id in self._accepted:
                answer.outcome, answer.reason = "failed", "duplicate_job_id"
            self._accepted.add(job_id)
        elif answer.job_state in TERMINAL:
            self._ended.setdefault(job_id, answer.exchange.end)
        elif answer.exchange.start >= self._ended.get(job_id, answer.exchange.end):
            answer.outcome, answer.reason = "failed", "back_to_pending"
