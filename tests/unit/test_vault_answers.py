"""A vault's silence is told to all who would wait for it, and to nobody once it has answered."""

from __future__ import annotations

import pytest

from cmk_operator.azure.vault_answers import VaultAnswers
from cmk_operator.core.access.state import VersionProbe
from cmk_operator.core.faults.azure_failure import AzureFailure, Stage
from tests.unit.samples import V1, healthy

SILENCE = AzureFailure(None, "Timeout", "no answer in time")
SILENT = VersionProbe(failure=SILENCE)


@pytest.mark.parametrize(
    ("learnt", "told"),
    [
        (SILENT, SILENCE),
        (VersionProbe(), None),
        (VersionProbe(healthy(V1).attributes, SILENCE, "wrapKey"), None),
        (VersionProbe(failure=AzureFailure(403, "Forbidden", "no")), None),
        (VersionProbe(failure=AzureFailure(503, "ServiceUnavailable", "no")), None),
        (VersionProbe(failure=AzureFailure(None, "ConnectionFailed", "no connection")), None),
        (VersionProbe(failure=AzureFailure(None, "Timeout", "Entra is silent", stage=Stage.APPLICATION_TOKEN)), None),
    ],
    ids=[
        "no answer in time",
        "an answer",
        "silence at wrapKey only",
        "a denial",
        "a server error",
        "a refused connection",
        "Entra gave no answer",
    ],
)
def test_only_a_vault_that_gives_no_answer_in_time_is_spared(learnt: VersionProbe, told: AzureFailure | None) -> None:
    answers = VaultAnswers()
    answers.record(learnt, 0.0, 20.0)
    assert answers.known_timeout(34.0, 15.0) is told
    assert answers.known_timeout(35.0, 15.0) is None, "then it is asked again"


def test_while_one_asks_again_the_others_are_told_what_is_known_and_who_asks_what_is_so_now_is_not() -> None:
    answers = VaultAnswers()
    answers.record(SILENT, 0.0, 20.0)
    with answers.probing():
        assert answers.known_timeout(100.0, 15.0) is SILENCE
        assert answers.known_timeout(100.0, 0.0) is None
    assert answers.known_timeout(100.0, 15.0) is None


def test_a_silence_that_began_before_the_last_answer_says_nothing_any_more() -> None:
    answers = VaultAnswers()
    answers.record(VersionProbe(), 5.0, 6.0)
    answers.record(SILENT, 0.0, 20.0)
    assert answers.known_timeout(21.0, 15.0) is None
    answers.record(SILENT, 7.0, 27.0)
    assert answers.known_timeout(28.0, 15.0) is SILENCE
