"""When a job is asked for again. Pure: given times in, times out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FixedPolling:
    """Poll a fixed interval after the last answer, until a time since the accepted submit has passed. All in ns."""

    interval: int
    give_up: int

    def next_poll(self, accepted: int, last_answer: int) -> int | None:
        """When to poll next, or None to give up.

        Args:
            accepted: when the submit was answered.
            last_answer: when the last answer came, of the submit or of a poll.
        """
        due = last_answer + self.interval
        return due if due <= accepted + self.give_up else None
