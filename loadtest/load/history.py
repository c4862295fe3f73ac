"""What a run has been told of each job, and answers that contradict it. Pure."""

from loadtest.load.client import TERMINAL, Answer
from loadtest.samples import Kind


class JobHistory:
    """Holds answers about jobs against earlier ones of the same run.

    An answer that contradicts another one is as good as any as a request; its operation has failed.
    """

    def __init__(self) -> None:
        self._accepted: set[str] = set()
        self._ended: dict[str, int] = {}

    def contradiction(self, kind: Kind, answer: Answer) -> str | None:
        """Take an answer into account, and say how it contradicts an earlier one, if it does.

        Returns:
            ``duplicate_job_id``: a submit was answered with the id of another job. ``back_to_pending``: a job is
            pending that was seen to have ended before this was even asked.
        """
        job_id = answer.job_id
        if job_id is None or answer.outcome != "ok" or answer.job_state is None:
            return None
        if kind == "submit":
            known = job_id in self._accepted
            self._accepted.add(job_id)
            return "duplicate_job_id" if known else None
        if answer.job_state in TERMINAL:
            self._ended.setdefault(job_id, answer.exchange.end)
        elif answer.exchange.start >= self._ended.get(job_id, answer.exchange.end):
            return "back_to_pending"
        return None
