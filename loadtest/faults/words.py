"""A fault in plain words, for whoever starts a server or reads a report."""

from loadtest.faults.kinds import (
    BackToPending,
    ColdStart,
    DuplicateResult,
    Error,
    FalseExecutionTime,
    Fault,
    Freeze,
    Garbage,
    Latency,
    NeverFinish,
    Reset,
    SlowExecution,
    Starve,
    Truncate,
    WrongResult,
)


def to_words(fault: Fault) -> str:
    """Such as ``latency 200 ms on sync_run from 10 s for 30 s with 10 %``."""
    parts = [_what(fault)]
    if fault.on:
        parts.append(f"on {' and '.join(fault.on)}")
    if fault.key is not None and not isinstance(fault, Starve):
        parts.append(f"of key {fault.key}")
    if fault.start:
        parts.append(f"from {fault.start:g} s")
    if fault.duration is not None:
        parts.append(f"for {fault.duration:g} s")
    if fault.probability != 1:
        parts.append(f"with {fault.probability * 100:g} %")
    return " ".join(parts)


def _what(fault: Fault) -> str:
    match fault:
        case Latency(shape="lognormal"):
            return f"latency of {fault.ms:g} ms in the median, lognormal with sigma {fault.sigma:g}"
        case Latency(shape="ramp"):
            return f"latency growing to {fault.ms:g} ms"
        case Latency():
            return f"latency {fault.ms:g} ms"
        case SlowExecution():
            return "slow execution, " + _changed(fault.factor, fault.ms)
        case Freeze():
            return "freeze of the whole server" + ("" if fault.ms is None else f" for {fault.ms:g} ms at a request")
        case Error():
            return f"error {fault.status}"
        case Reset():
            return f"reset {'before execution' if fault.when == 'before' else 'in the middle of answers'}"
        case Garbage():
            return "garbage that is not " + ("JSON" if fault.what == "body" else "HTTP")
        case DuplicateResult():
            return "results of the one before" if fault.what == "result" else "ids of the job before"
        case FalseExecutionTime(value="off"):
            return "false executionTime, " + _changed(fault.factor, fault.ms)
        case FalseExecutionTime():
            how = "above the client's time" if fault.value == "above" else fault.value
            return f"false executionTime, {how}"
        case ColdStart():
            return f"cold start of {fault.ms:g} ms after {fault.idle:g} s of silence"
        case Starve():
            return f"key {fault.key} starved by {'any other' if fault.by is None else f'key {fault.by}'}"
        case Truncate():
            return "truncated answers"
        case NeverFinish():
            return "jobs that never finish"
        case WrongResult():
            return "wrong results"
        case BackToPending():
            return "jobs that ended and are pending again"
    return "429 without reason"


def _changed(factor: float, ms: float) -> str:
    parts = [f"{factor:g} times"] if factor != 1 else []
    return " ".join([*parts, *([f"{ms:+g} ms"] if ms else [])])
