"""What is wrong or odd in a file, each with the number of its row, so that one run shows all of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.text import format_count

FINDINGS_MAX = 500
"""Findings that are kept with their text; of more only the number is kept, as a file may have one in each row."""

FAULTS_IN_MESSAGE = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about a row; rows are counted from 1 as in an editor. ``file`` is one of several files."""

    row: int
    text: str
    file: str = ""

    def __str__(self) -> str:
        place = f"row {self.row}" if self.row else "file"
        return f"{self.file} {place}: {self.text}" if self.file else f"{place}: {self.text}"


@dataclass(slots=True)
class Findings:
    """Faults, with which nothing is imported, and remarks, which the operator should know of."""

    faults: list[Finding] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)
    fault_count: int = 0
    remark_count: int = 0
    file: str = ""

    @property
    def refusal(self) -> InvalidValue:
        """The refusal of a file with faults; its fields are the rows."""
        fields: dict[str, str] = {}
        for each in self.faults:
            row = f"row {each.row}" if each.row else "file"
            fields[row] = f"{fields[row]}; {each.text}" if row in fields else each.text
        texts = [str(each) for each in self.faults[:FAULTS_IN_MESSAGE]]
        more = [] if self.fault_count <= len(texts) else ["…"]
        return InvalidValue(
            f"{format_count(self.fault_count, 'fault')}, nothing was written: {'; '.join(texts + more)}", fields
        )

    def add_fault(self, row: int, text: str) -> None:
        """Record what must be mended before the file can be imported."""
        self.fault_count += 1
        if len(self.faults) < FINDINGS_MAX:
            self.faults.append(Finding(row, text, self.file))

    def add_remark(self, row: int, text: str) -> None:
        """Record what was read otherwise than it stands, or left out."""
        self.remark_count += 1
        if len(self.remarks) < FINDINGS_MAX:
            self.remarks.append(Finding(row, text, self.file))
