"""What the words and the cells of a record mean: the integers that its columns become."""

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from loadtest.contract import Operation, Outcome, RequestKind
from loadtest.record import samples
from loadtest.record.run_info import RunInfo, StagePlan

OUTCOMES: Final = tuple(Outcome)
KINDS: Final = tuple(RequestKind)
"""Those that begin an operation come first."""


class Book:
    """The words of a record and the cells of its plan, as integers.

    Attributes:
        words: of each word column, every word so far; ``OUTCOMES`` and ``KINDS`` come first in theirs.
        entries: names of the traffic entries, in order of the scenario.
        cells: (traffic, stage) of each cell: every stage of every entry, the warm-up included.
        entry_of: for each cell, the place of its entry.
        operation_of: for each cell, what its arrivals ask for.
        in_figures: for each cell, whether it is judged.
    """

    def __init__(self, info: RunInfo) -> None:
        self.words: dict[str, list[str]] = {name: [] for name in samples.WORDS}
        self.words["outcome"] += OUTCOMES
        self.words["kind"] += KINDS
        self.words["row"] += ["operation", "request"]
        self.entries = list(info.traffic)
        self.words["traffic"] += self.entries
        self.cells: list[tuple[str, StagePlan]] = [(name, s) for name, p in info.traffic.items() for s in p.stages]
        self.entry_of = [self.entries.index(name) for name, _ in self.cells]
        self.operation_of = [Operation(info.traffic[name].operation) for name, _ in self.cells]
        self.in_figures = np.array([not stage.warmup for _, stage in self.cells], bool)
        self._places = {(name, stage.name): place for place, (name, stage) in enumerate(self.cells)}
        self._known = {name: {word: place for place, word in enumerate(known)} for name, known in self.words.items()}
        self._last: dict[str, tuple[pa.Array, NDArray[np.int32]]] = {}

    def codes(self, name: str, words: list[str]) -> NDArray[np.int32]:
        """The integer of each word of a column; new words are taken in."""
        known = self._known[name]
        for word in words:
            if word not in known:
                known[word] = len(known)
                self.words[name].append(word)
        return np.array([known[word] for word in words], np.int32)

    def of_dictionary(self, name: str, dictionary: pa.Array) -> NDArray[np.int32]:
        """The integers of a dictionary's words, in its order, and -1 after them: batches mostly bring the same one."""
        last = self._last.get(name)
        if last is None or not last[0].equals(dictionary):
            codes = np.append(self.codes(name, dictionary.to_pylist()), np.int32(-1))
            last = self._last[name] = dictionary, codes
        return last[1]

    def cell(self, traffic: NDArray[np.int32], stage: NDArray[np.int32]) -> NDArray[np.int64]:
        """The cell of each pair of words; -1 for what no plan names: jobs that were seeded before the epoch."""
        stages = self.words["stage"]
        table = [self._places.get((entry, each), -1) for entry in self.words["traffic"] for each in stages]
        return np.array(table, np.int64).take(traffic * np.int64(len(stages)) + stage)
