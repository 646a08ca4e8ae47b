"""Replies that were given: the same request gets the same bytes, and no other request any."""

from pathlib import Path

import numpy as np
import pytest

from clients.exchange.replies import Replies
from fedmodel import _files, wire
from fedmodel.errors import RunFolderError
from fedmodel.secagg.messages import Survivors, decode, encode
from tests.clients.four_sites import POOLED, Talk, job_of, nothing

LEGS = ("open", "train", "consent", "reveal")
JOB = "a" * 64


@pytest.mark.parametrize("leg", LEGS)
def test_a_request_has_one_reply_and_others_have_none(tmp_path: Path, leg: str) -> None:
    kept = Replies(tmp_path / "state", JOB)
    assert kept.find(leg, b"request") is None
    kept.keep(leg, b"request", (b"told",))
    assert kept.find(leg, b"request") == (b"told",)
    assert kept.find(leg, b"request ") is None
    assert all(kept.find(other, b"request") is None for other in LEGS if other != leg)
    assert kept.find("join", b"request") is None
    assert Replies(tmp_path / "state", "b" * 64).find(leg, b"request") is None
    # What an open tells is bound to keys that end with the process.
    after = Replies(tmp_path / "state", JOB).find(leg, b"request")
    assert after == (None if leg == "open" else (b"told",))


def test_a_vector_comes_back_beside_its_header(tmp_path: Path) -> None:
    kept, vector = Replies(tmp_path, JOB), np.arange(250, dtype=np.uint8)
    kept.keep("train", b"?", (b"header", vector))
    assert kept.find("train", b"?") == (b"header", vector.tobytes())
    assert (tmp_path / f"reply-train-{JOB[:32]}.bin").stat().st_mode & 0o077 == 0


def test_what_an_attempt_was_told_goes_when_the_next_is_opened(tmp_path: Path) -> None:
    kept = Replies(tmp_path, JOB)
    for leg in LEGS[1:]:
        kept.keep(leg, b"?", (b"x",))
    kept.keep("open", b"next", (b"shares",))
    assert all(kept.find(leg, b"?") is None for leg in LEGS[1:])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [0, 1, 100, 300])
def test_a_file_that_a_power_cut_has_left_in_parts_is_no_reply(tmp_path: Path, cut: int) -> None:
    kept = Replies(tmp_path, JOB)
    kept.keep("reveal", b"?", (b"shares" * 40,))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut] if cut else whole[:-40] + bytes(40))
    assert kept.find("reveal", b"?") is None


def test_a_file_that_ends_or_errs_anywhere_is_no_reply(tmp_path: Path) -> None:
    kept = Replies(tmp_path, JOB)
    kept.keep("reveal", b"?", (b"one", b"two!"))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        assert kept.find("reveal", b"?") is None
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert kept.find("reveal", b"?") is None or whole[at : at + 1] == b" "
    path.write_bytes(whole)
    assert kept.find("reveal", b"?") == (b"one", b"two!")


def test_a_reply_that_cannot_be_kept_does_not_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files, "write_whole", full)
    with pytest.raises(RunFolderError, match=r"No space left on device\. This reply hasn't left"):
        Replies(tmp_path, JOB).keep("reveal", b"?", (b"x",))


def test_an_attempt_whose_last_replies_cannot_be_forgotten_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    kept = Replies(tmp_path, JOB)
    kept.keep("train", b"?", (b"x",))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stuck)
        with pytest.raises(RunFolderError, match=r"Read-only file system\. Nothing of this round"):
            kept.keep("open", b"next", (b"shares",))
    assert kept.find("open", b"next") is None
    kept.keep("open", b"next", (b"shares",))
    assert kept.find("train", b"?") is None


@pytest.mark.long
def test_a_restarted_site_gives_the_same_replies_to_the_same_requests_only(tmp_path: Path) -> None:
    talk = Talk(tmp_path)
    job = job_of(privacy=POOLED)
    attempt = talk.open(talk.begin(job))
    order = talk.order(attempt)
    first = talk.send("train", order)
    talk.upload(attempt, first, nothing)
    told = attempt.survivors_message()
    talk.reveal(attempt)
    attempt._stage = "reveals"
    request = attempt.request_for(1)
    given = {leg: talk.tell(leg, data) for leg, data in asked(told, request).items()}
    talk.restart()
    talk.begin(job)
    for leg, data in asked(told, request).items():
        assert talk.tell(leg, data) == given[leg]
    again = talk.send("train", order)
    assert wire.parcel(again.content, "masked").tobytes() == (
        wire.parcel(first.content, "masked").tobytes()
    )
    assert talk.spent() == 1
    # Another set of survivors of that attempt gets nothing, nor does another attempt of the round.
    fewer = encode(Survivors(manifest=attempt.digest.hex(), takers=(1, 2, 3, 4), survivors=(1, 2)))
    assert decode(Survivors, fewer, 4)
    assert "no attempt is open" in talk.why("query.consent", fewer)
    protocol = talk.begin(job)
    late = protocol.begin(round=1, attempt=2, model=attempt.manifest.model, cohort=range(1, 5))
    assert "has agreed to a sum in round 1" in talk.why("query.open", late.open_for(1))


def asked(told: bytes, request: bytes) -> dict[str, bytes]:
    return {"query.consent": told, "query.reveal": request}
