"""The end of a run on several workers: what is missing is recorded as lost, and run.json says who took part."""

from loadtest.load.session import Session
from loadtest.load.workers.conducting import Conducting
from loadtest.load.workers.member import Member
from loadtest.runfile import EpochInfo, WorkerInfo
from loadtest.samples import Sample


def close_books(session: Session, crew: Conducting) -> None:
    """Record every arrival that was assigned and is not in the record as lost, and fill in run.json.

    Args:
        session: the run.
        crew: whose workers have sent all that they will send.
    """
    info, members = session.info, crew.members
    index = {member.worker: member.index for member in members.values()}
    finished = info.end == "finished"
    # Where the run was cut short, only those that are gone had arrivals that nobody offered.
    whose = None if finished else {m.worker for m in members.values() if not m.alive or m.returned}
    for schedule in session.schedules if crew.roster.epochs else ():
        entry = session.entries[schedule.traffic]
        until = int(schedule.duration * 1e9) + 1 if finished or crew.ended_ns is None else crew.ended_ns
        lost = 0
        for arrival, worker in crew.merging.seen.missing(schedule, crew.roster.epochs, until, whose):
            lost += 1
            session.recorder.append(
                Sample(
                    row="operation",
                    traffic=entry.name,
                    operation=entry.operation,
                    stage=arrival.stage,
                    outcome="lost",
                    reason="worker_lost",
                    arrival=arrival.number,
                    intended_start=arrival.intended_ns,
                    key_index=entry.key_index(arrival.number),
                    worker=index[worker],
                    request_id=session.trace_id(entry, arrival.number),
                )
            )
        session.live.offered[entry.name] = crew.merging.seen.count(entry.name) + lost
    if crew.merging.seen.twice:
        session.bug = f"{crew.merging.seen.twice} arrivals were sent by two workers"
    session.endpoint.budget.used = crew.allowances.total()
    if crew.roster.epochs:
        info.workers = len(crew.roster.epochs[0].workers)
    info.crew = [_worker_info(member, crew) for member in members.values()]
    info.epochs = [
        EpochInfo(number=each.number, from_s=round(each.from_ns / 1e9, 3), workers=[index[w] for w in each.workers])
        for each in crew.roster.epochs
    ]


def _worker_info(member: Member, crew: Conducting) -> WorkerInfo:
    report = member.report
    return WorkerInfo(
        worker=member.index,
        host=member.hello.host,
        joined_s=round((member.joined_ns or 0) / 1e9, 3),
        left_s=None if member.gone_ns is None else round(member.gone_ns / 1e9, 3),
        end="lost" if member.lost else "stayed" if member.alive else "left",
        returned=member.returned,
        samples=crew.merging.rows.get(member.worker, 0),
        offset_ms=round((report.offset_ns if report else 0) / 1e6, 3),
        uncertainty_ms=round((report.uncertainty_ns if report else 0) / 1e6, 3),
        shared_clock=report is not None and report.shared_clock,
    )
