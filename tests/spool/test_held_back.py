"""What the receipt says of jobs that are not to start at once."""

import pytest

from racksack_controller.intake.held_back import held_back
from racksack_controller.returns import result_of
from racksack_jobspecs.spec import Dependency, JobSpec
from racksack_jobspecs.states import JobState
from tests.core.builders import job


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, ""),
        ({"hold": True}, "it is held until `racksack release`"),
        ({"after": (Dependency("41"),)}, "it starts once 41 is done"),
        ({"after": (Dependency("41", "any"), Dependency("", "singleton"))},
         "it starts once 41 has ended, earlier jobs of its name have ended"),
    ],
)  # fmt: skip
def test_what_a_job_waits_for_by_its_own_wish(changes: dict[str, object], sentence: str) -> None:
    assert held_back(JobSpec(name="x", project="p", entrypoint="m.py", **changes)) == sentence  # type: ignore[arg-type]


def test_the_result_of_an_arrays_job_has_its_index() -> None:
    element = job(12, state=JobState.DONE, array_id=11, array_index=6)
    result = result_of(element, None)
    assert (result["array_id"], result["array_index"]) == (11, 6)
