"""A noised update is kept before it leaves, and is what a repeated order gets; it is paid once."""

import errno
import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from clients.kept_update import KeptUpdate
from fedmodel import _files, wire
from fedmodel.errors import RunFolderError
from fedmodel.ledger import Ledger, SpendEntry
from fedmodel.update import Update, Vector
from tests.clients.four_sites import POOLED, RECORD, WHOLE, Talk, job_of, nothing
from tests.fedmodel.identity.killed import killed_at

VECTORS = Path(__file__).parents[1] / "vectors"
JOB, MODEL = "a" * 64, "b" * 64
UPDATE = Update.of(np.linspace(-1, 1, 5).astype(np.float32), 3.0, {"train_loss": 0.25})


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


def kept_in(folder: Path, update: Update = UPDATE) -> KeptUpdate:
    kept = KeptUpdate(folder, JOB, 5)
    with kept.room(2, MODEL) as keep:
        keep(update)
    return kept


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# -- the file ------------------------------------------------------------------------------------


def test_an_update_comes_back_bit_for_bit_for_its_round_and_model_only(tmp_path: Path) -> None:
    kept_in(tmp_path / "run")
    found = KeptUpdate(tmp_path / "run", JOB, 5).find(2, MODEL)
    assert found is not None
    assert found.vector.tobytes() == UPDATE.vector.tobytes()
    assert (found.weight, found.metrics) == (UPDATE.weight, UPDATE.metrics)
    for other in (KeptUpdate(tmp_path / "run", "c" * 64, 5), KeptUpdate(tmp_path, JOB, 5)):
        assert other.find(2, MODEL) is None
    same = KeptUpdate(tmp_path / "run", JOB, 5)
    assert same.find(3, MODEL) is same.find(2, "c" * 64) is same.find(20, MODEL) is None
    (path,) = (tmp_path / "run").iterdir()
    assert path.stat().st_mode & 0o077 == 0


def test_what_a_released_version_kept_is_read(tmp_path: Path) -> None:
    kept_in(tmp_path)
    (path,) = tmp_path.iterdir()
    golden = VECTORS / "kept_update_v1.bin"
    if os.environ.get("FEDMODEL_WRITE_VECTORS"):
        golden.write_bytes(path.read_bytes())
    assert path.read_bytes() == golden.read_bytes()
    (tmp_path / path.name).write_bytes(golden.read_bytes())
    assert KeptUpdate(tmp_path, JOB, 5).find(2, MODEL) is not None


@pytest.mark.parametrize("damage", ["cut", "bit", "longer", "empty", "head"])
def test_a_damaged_file_is_no_update(tmp_path: Path, damage: str) -> None:
    kept_in(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[:-4],
            "bit": whole[:-1] + bytes([whole[-1] ^ 1]),
            "longer": whole + bytes(4),
            "empty": b"",
            "head": whole[:90],
        }[damage]
    )
    assert KeptUpdate(tmp_path, JOB, 5).find(2, MODEL) is None
    assert KeptUpdate(tmp_path, JOB, 6).find(2, MODEL) is None


def test_the_next_rounds_update_takes_the_place_of_the_last(tmp_path: Path) -> None:
    kept = kept_in(tmp_path)
    with kept.room(3, MODEL) as keep:
        assert kept.find(2, MODEL) is not None  # until there is another
        keep(UPDATE)
    assert kept.find(2, MODEL) is None
    assert kept.find(3, MODEL) is not None
    assert len(list(tmp_path.iterdir())) == 1


def test_room_is_taken_before_and_goes_where_nothing_comes_of_it(tmp_path: Path) -> None:
    kept = KeptUpdate(tmp_path, JOB, 5000)
    with kept.room(1, MODEL):
        (taken,) = tmp_path.iterdir()
        assert taken.stat().st_size >= 4 * 5000
    assert list(tmp_path.iterdir()) == []


def test_room_that_a_killed_process_had_taken_is_free_again(tmp_path: Path) -> None:
    dead = tmp_path / f".update-{JOB[:32]}.bin.{2**22 + 1}.tmp"
    other = tmp_path / ".something.else.tmp"
    for path in (dead, other):
        path.write_bytes(b"x")
    kept_in(tmp_path)
    assert not dead.exists()
    assert other.exists()


def test_what_could_not_be_written_is_no_update_of_another_round_or_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptUpdate(tmp_path, JOB, 5)
    with monkeypatch.context() as patched, kept.room(2, MODEL) as keep:
        patched.setattr(os, "fsync", full)
        with pytest.raises(RunFolderError, match="hasn't left"):
            keep(UPDATE)
    assert kept.find(3, MODEL) is kept.find(2, "c" * 64) is None
    assert kept.find(2, MODEL) is not None


# -- at a site -----------------------------------------------------------------------------------


def ordered(talk: Talk, job: Any, round_: int = 1, moved: float = 0.0) -> Message:
    """Join anew, and order a round of an exchange in which the coordinator reads the update."""
    reply = talk.offer(job)
    assert not reply.has_error(), reply.error
    vector = talk.initial + np.float32(moved)
    return talk.send("train", wire.encode_order("test", round_, job.sha256, wire.pack(vector)))


def vector_in(talk: Talk, reply: Message) -> Vector:
    assert not reply.has_error(), reply.error
    return wire.decode_update(reply.content, talk.initial.size).vector


def attempts(talk: Talk) -> list[tuple[int, int]]:
    entries = Ledger(talk.site.ledger_file).entries()
    return [(e.round, e.attempt) for e in entries if isinstance(e, SpendEntry)]


def test_a_repeated_order_gets_the_same_update_and_spends_nothing(talk: Talk) -> None:
    job = job_of("off", RECORD)
    first = vector_in(talk, ordered(talk, job))
    again = vector_in(talk, ordered(talk, job))  # the coordinator was started anew
    talk.restart()
    last = vector_in(talk, ordered(talk, job))  # so was the site
    assert first.tobytes() == again.tobytes() == last.tobytes()
    assert attempts(talk) == [(1, 1)]


def test_another_model_or_round_is_trained_and_paid(talk: Talk) -> None:
    job = job_of("off", RECORD)
    first = vector_in(talk, ordered(talk, job))
    other = vector_in(talk, ordered(talk, job, moved=1.0))
    assert first.tobytes() != other.tobytes()
    vector_in(talk, ordered(talk, job, 2))
    assert attempts(talk) == [(1, 1), (1, 2), (2, 1)]


def test_where_the_kept_update_is_gone_it_is_paid_again_and_written(talk: Talk) -> None:
    job = job_of("off", RECORD)
    first = vector_in(talk, ordered(talk, job))
    (path,) = talk.kept.glob("update-*.bin")
    path.write_bytes(path.read_bytes()[:-1])
    assert vector_in(talk, ordered(talk, job)).tobytes() != first.tobytes()
    assert attempts(talk) == [(1, 1), (1, 2)]


def test_a_sealed_update_is_sealed_anew_and_is_the_same(talk: Talk) -> None:
    job, found = job_of("seal", RECORD), []
    for _ in range(2):
        reply = ordered(talk, job)
        assert not reply.has_error(), reply.error
        (path,) = talk.kept.glob("update-*.bin")
        found.append((path.read_bytes(), wire.parcel(reply.content, "sealed").tobytes()))
        talk.restart()
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]
    assert attempts(talk) == [(1, 1)]


def test_a_summed_update_is_masked_anew_and_paid_once_over_restarts(talk: Talk) -> None:
    job, vectors = job_of(privacy=RECORD), []
    for _ in range(2):
        attempt = talk.open(talk.begin(job))
        reply = talk.send("train", talk.order(attempt))
        talk.upload(attempt, reply, nothing)
        vectors.append(wire.parcel(reply.content, "masked").tobytes())
        talk.restart()
    assert vectors[0] != vectors[1]
    assert attempts(talk) == [(1, 1)]


@pytest.mark.parametrize("privacy", [POOLED, WHOLE])
def test_an_update_whose_noise_is_shared_is_never_kept(talk: Talk, privacy: Any) -> None:
    attempt = talk.open(talk.begin(job_of(privacy=privacy)))
    assert not talk.send("train", talk.order(attempt)).has_error()
    assert list(talk.kept.glob("*update-*")) == []


def test_without_privacy_nothing_is_kept(talk: Talk) -> None:
    job = job_of("off")
    one, other = (vector_in(talk, ordered(talk, job)) for _ in range(2))
    assert one.tobytes() == other.tobytes()  # by its seeds
    assert list(talk.kept.glob("*update-*")) == []


def test_when_the_run_has_ended_it_is_forgotten(talk: Talk) -> None:
    job = job_of("off", RECORD)
    vector_in(talk, ordered(talk, job))
    for failed, left in ((True, 1), (False, 0)):
        end = wire.Leave(run="test", job_sha256=job.sha256, failed=failed)
        assert not talk.send("query.leave", wire.encode_leave(end)).has_error()
        assert len(list(talk.kept.glob("update-*"))) == left


# -- disks and kills -----------------------------------------------------------------------------


def test_a_full_disk_is_known_of_before_anything_is_spent(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of("off", RECORD)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert ordered(talk, job).has_error()
    assert attempts(talk) == []
    assert list(talk.kept.glob("*update-*")) == []
    vector_in(talk, ordered(talk, job))
    assert attempts(talk) == [(1, 1)]


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_where_a_file_system_cannot_be_asked_for_room_the_round_goes_on(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refused)
    vector_in(talk, ordered(talk, job_of("off", RECORD)))
    monkeypatch.delattr(os, "posix_fallocate")
    vector_in(talk, ordered(talk, job_of("off", RECORD), 2))


def test_what_is_paid_and_cannot_be_written_is_kept_in_memory_and_does_not_leave(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of("off", RECORD)
    with monkeypatch.context() as patch:
        patch.setattr(_files.Room, "fill", full)
        assert ordered(talk, job).has_error()
        real = _files.write_atomic
        patch.setattr(
            _files,
            "write_atomic",
            lambda path, *rest, **more: (
                full() if "update-" in path.name else real(path, *rest, **more)
            ),
        )
        before = attempts(talk)
        assert ordered(talk, job).has_error()
    assert attempts(talk) == before == [(1, 1)]
    vector_in(talk, ordered(talk, job))
    assert attempts(talk) == [(1, 1)]
    assert len(list(talk.kept.glob("update-*"))) == 1


def test_the_error_says_whether_something_was_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptUpdate(tmp_path, JOB, 5)
    monkeypatch.setattr(_files.Room, "fill", full)
    with pytest.raises(RunFolderError, match="hasn't left the site"), kept.room(1, MODEL) as keep:
        keep(UPDATE)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        pytest.raises(RunFolderError, match="Nothing was spent on this round"),
        KeptUpdate(tmp_path, JOB, 5).room(1, MODEL),
    ):
        raise AssertionError("nothing may be done")


@pytest.mark.slow
def test_a_site_killed_anywhere_gives_one_update_for_each_spend(tmp_path: Path) -> None:
    """What has left is what comes again; no update is paid less than once."""
    job, call, killed = job_of("off", RECORD), 0, True
    while killed:
        call += 1
        folder = tmp_path / str(call)
        left: list[bytes] = []
        killed = killed_at(call, functools.partial(give, Talk(folder), job, left))
        talk = Talk(folder)
        again: list[bytes] = []
        give(talk, job, again)
        give(talk, job, again)
        assert again[0] == again[1]
        assert left in ([], again[:1])
        # What has left was paid once; else what died with the process may have been paid, too.
        assert len(attempts(talk)) in ((1,) if left else (1, 2))
    assert call > 20


def give(talk: Talk, job: Any, left: list[bytes]) -> None:
    left.append(vector_in(talk, ordered(talk, job)).tobytes())
