"""What a swap tells of a program that cannot live; the transaction itself is held against a real engine."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.nekocheik.deployment_monitoring.plugins.module_utils import swap


class Engine:
    """Answers with one inspection after the other, then with the last one."""

    def __init__(self, *states: tuple[str, int, int]) -> None:
        self.states = list(states)

    def container(self, _name: str) -> dict[str, t.Any]:
        status, code, restarts = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {"RestartCount": restarts, "State": {"Status": status, "ExitCode": code}}


def said(*states: tuple[str, int, int]) -> str:
    service = {"name": "one", "user": "0:0", "config_dir": "/nowhere/config", "data_dir": "/nowhere/data"}
    decision = {"action": "recreate", "files": {}}
    return swap.Swap(Engine(*states), service, decision, "/nowhere/staging", 0)._ended()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([("running", 0, 0)], ""),
        # A race for a port that is just being freed.
        ([("restarting", 1, 1)], ""),
        ([("exited", 3, 0)], "the program ends by itself (exit code 3)"),
        ([("restarting", 1, 2)], "the program ends by itself (exit code 1)"),
        # In its next life already, which has no exit code yet.
        ([("running", 0, 2), ("running", 0, 2), ("restarting", 1, 2)], "the program ends by itself (exit code 1)"),
    ],
)
def test_a_program_that_cannot_live_is_told_with_what_it_ends_with(
    states: list[tuple[str, int, int]], expected: str
) -> None:
    assert said(*states) == expected
