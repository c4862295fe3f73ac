"""A worker, as its master knows it."""

from dataclasses import dataclass, field

from loadtest.load.workers.messages import Hello, Report
from loadtest.runfile import CpuSample, GeneratorInfo


@dataclass(slots=True)
class Member:
    """One worker of a run. Moments without another word are ns of the master's monotonic clock."""

    worker: str
    """Its Locust id."""
    index: int
    hello: Hello
    of: int
    """How many there were when it was told to make its users."""
    heard_ns: int
    report: Report | None = None
    """The last one."""
    joined_ns: int | None = None
    """When its first epoch began; since the run's epoch."""
    gone_ns: int | None = None
    """When it left, or was believed lost; since the run's epoch."""
    lost: bool = False
    returned: int = 0
    """How often it was lost and came back: what it was assigned until then may be missing."""
    leaving: bool = False
    closed: bool = False
    """It has sent everything that it recorded."""
    given: int = 0
    """Arrivals of others that it was given."""
    cpu: list[CpuSample] = field(default_factory=list)
    generator: GeneratorInfo | None = None

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.gone_ns is None

    def has_offered_all(self, epoch: int, *, stopped: bool) -> bool:
        """Whether it has nothing left to offer.

        Args:
            epoch: number of the last one: a report of before it says nothing of what it was given with it.
            stopped: whether everybody was told to offer nothing more.
        """
        if self.joined_ns is None:
            return True
        report = self.report
        return report is not None and report.exhausted and (self.leaving or stopped or report.epoch == epoch)

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be sent by it, and nothing is in flight, as far as was heard."""
        return self.report is not None and self.report.quiet and self.report.given == self.given
