"""Every error that feedwell raises on purpose.

    FeedwellError                exit code
    ├── CheckFailed              1   a gate, a parity check or `check` said no
    ├── UsageError               2   the call itself is wrong
    ├── ProjectError             3   the project file; carries every Problem found
    ├── DataError                4   events, catalog, artifacts on disk
    │   ├── CorruptArtifact          a checksum or a format does not hold
    │   └── NotTrained               a component was used before `fit` or `load`
    └── Unavailable              5   a store, a lock or a release is not there (now)

A message says what was being done, the offending value, what was expected, and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FeedwellError(Exception):
    """Base of all expected errors; `exit_code` is what the CLI returns."""

    exit_code = 1


class CheckFailed(FeedwellError):
    exit_code = 1


class UsageError(FeedwellError):
    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with a project file, with the place and the mend."""

    key: str
    message: str
    line: int | None = None
    expected: str = ""
    nearest: str = ""
    file: str = "feedwell.toml"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        text = f"{place}: {self.key}: {self.message}"
        if self.expected:
            text += f" (expected {self.expected})"
        return text + (f"; did you mean '{self.nearest}'?" if self.nearest else "")


class ProjectError(FeedwellError):
    """All problems of a project file together."""

    exit_code = 3

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        noun = "problem" if len(self.problems) == 1 else "problems"
        super().__init__("\n".join([f"{len(self.problems)} {noun} in the project:", *map(str, self.problems)]))

    def __reduce__(self) -> tuple[type[ProjectError], tuple[Sequence[Problem]]]:
        return ProjectError, (self.problems,)  # between processes the problems travel, not their text


class DataError(FeedwellError):
    exit_code = 4


class CorruptArtifact(DataError):
    pass


class NotTrained(DataError):
    @staticmethod
    def of(part: str) -> NotTrained:
        return NotTrained(f"'{part}' was called before `fit` or `load`: run `feedwell train` first")


class Unavailable(FeedwellError):
    exit_code = 5
