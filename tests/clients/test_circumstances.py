"""What a policy says of all that comes with a job: its base, code, day and number of offers."""

import hashlib
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.circumstances import Circumstances, beyond, check_checkpoint
from clients.limits import Limits
from clients.policy import Policy, decide
from clients.site_run import SiteRun
from fedmodel import wire
from fedmodel._paths import source_digest
from fedmodel.errors import ConfigError, MissingExtraError, RefusedError, RunFolderError
from fedmodel.identity.recent import Recent
from fedmodel.job import Model
from fedmodel.models import checkpoint
from tests.checkpoints import write_checkpoint
from tests.clients.talk import make_site
from tests.clients.test_app import PLAIN, PRIVATE, Talk
from tests.clients.test_policy import rows
from tests.examples import examples
from tests.jobs import make_job, real_job

A, B, C = (digit * 64 for digit in "abc")
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
HERE = Circumstances(base=(A,), version="0.2.0", sources=B, now=NOON)


def at(text: str) -> Circumstances:
    return replace(HERE, now=datetime.fromisoformat(text).replace(tzinfo=UTC))


# Limits → circumstances that keep them, those that don't, and what the refusal says.
CASES: list[tuple[Limits, list[Circumstances], list[Circumstances], str]] = [
    (
        Limits(bases=(A, B)),
        [HERE, replace(HERE, base=(A, B)), replace(HERE, base=(B,))],
        [replace(HERE, base=(C,)), replace(HERE, base=(A, C))],
        "policy.bases=.aaaaaaaaaaaaaaaa….* a base model of .cccccccccccccccc…",
    ),
    (Limits(bases=(A,)), [HERE], [replace(HERE, base=())], "policy.bases=.* no known files"),
    (
        Limits(code=("0.2.0", "0.3.0")),
        [HERE, replace(HERE, version="0.3.0")],
        [replace(HERE, version="0.2.1"), replace(HERE, version="0.2")],
        r"policy.code=\[0.2.0,0.3.0\], and .* fedmodel 0.2(.1)?, sources bbbb",
    ),
    (Limits(code=(B,)), [HERE], [replace(HERE, sources=C)], "policy.code=.bbbbbbbbbbbbbbbb…"),
    (
        Limits(begins="2026-11-30"),
        [at("2026-11-30T00:00:00"), at("2027-01-01")],
        [at("2026-11-29T23:59:59")],
        "policy.begins=2026-11-30, and .* an answer at 2026-11-29 23:59 UTC",
    ),
    (
        Limits(ends="2026-11-30"),
        [at("2026-11-30T23:59:59"), at("2026-01-01")],
        [at("2026-12-01T00:00:00")],
        "policy.ends=2026-11-30, and .* an answer at 2026-12-01 00:00 UTC",
    ),
    (
        Limits(offers=3),
        [HERE, replace(HERE, offers=3), replace(HERE, offers=2)],
        [replace(HERE, offers=4)],
        "policy.offers=3, and .* one more within 24 hours",
    ),
]


@pytest.mark.sample(3)
@pytest.mark.parametrize(("limits", "kept", "broken", "says"), CASES)
def test_a_job_within_a_limit_is_taken_and_one_beyond_it_refused(
    limits: Limits, kept: list[Circumstances], broken: list[Circumstances], says: str
) -> None:
    for offered in kept:
        assert list(beyond(offered, limits)) == []
        decide(PRIVATE, Policy(limits=limits), offered=offered)
    for offered in broken:
        with pytest.raises(RefusedError, match=f"(?s)this site's policy allows {says}") as caught:
            decide(PRIVATE, Policy(limits=limits), offered=offered)
        rule = str(caught.value.rule)
        assert rule.startswith(f"policy.{_named(limits)}: asked ")
        assert ", allowed " in rule


def _named(limits: Limits) -> str:
    (name,) = (e.name for e in fields(limits) if getattr(limits, e.name) != e.default)
    return name


def test_what_nobody_told_is_this_installations_and_names_no_base() -> None:
    decide(PRIVATE, Policy(limits=Limits(code=(source_digest(),))))
    with pytest.raises(RefusedError, match=r"policy\.bases"):
        decide(PRIVATE, Policy(limits=Limits(bases=(A,))))
    with pytest.raises(RefusedError, match=r"policy\.ends"):
        decide(PRIVATE, Policy(limits=Limits(ends="2020-01-01")))


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"bases": ("sha256:abc",)}, "policy.bases: expected the SHA-256"),
        ({"bases": (A.upper(),)}, "policy.bases"),
        ({"bases": ()}, "policy.bases is an empty list"),
        ({"code": ("main",)}, "policy.code: expected a version"),
        ({"begins": "31.12.2026"}, "policy.begins must be a day"),
        ({"ends": "2026-02-30"}, "policy.ends must be a day"),
        ({"begins": "2026-02-02", "ends": "2026-02-01"}, "no job is ever taken"),
        ({"offers": 0}, "policy.offers must be above 0"),
        ({"offers": 10_001}, "policy.offers must be at most 10000"),
    ],
)
def test_a_limit_that_no_job_keeps_is_refused(limits: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Limits(**limits)


def test_days_are_those_of_utc_whatever_zone_a_clock_is_in() -> None:
    east = datetime.fromisoformat("2026-12-01T03:00:00+14:00")  # in UTC still the day before
    assert not list(beyond(replace(HERE, now=east), Limits(ends="2026-11-30")))
    (early,) = beyond(replace(HERE, now=east), Limits(begins="2026-12-01"))
    assert early.limit == "policy.begins"


def test_a_policy_may_hold_until_the_last_day_that_there_is() -> None:
    limits = Limits(begins="0001-01-01", ends="9999-12-31")
    assert list(beyond(HERE, limits)) == list(beyond(at("9999-12-31T23:59:59"), limits)) == []


DIGESTS = st.lists(st.sampled_from([A, B, C]), max_size=3, unique=True)
DAYS = st.dates(datetime(2026, 1, 1).date(), datetime(2026, 1, 9).date())


@pytest.mark.long
@settings(max_examples=examples(200))
@given(
    DIGESTS,
    st.one_of(st.none(), DIGESTS.filter(bool)),
    DAYS,
    st.one_of(st.none(), DAYS),
    st.one_of(st.none(), DAYS),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(1, 5)),
)
def test_no_offer_that_breaks_a_limit_is_taken_and_no_other_is_refused(
    base: Any, bases: Any, day: Any, begins: Any, ends: Any, offers: int, most: int | None
) -> None:
    if begins is not None and ends is not None and begins > ends:
        begins, ends = ends, begins
    limits = Limits(
        bases=None if bases is None else tuple(bases),
        begins=None if begins is None else begins.isoformat(),
        ends=None if ends is None else ends.isoformat(),
        offers=most,
    )
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    offered = Circumstances(base=tuple(base), now=noon, offers=offers)
    fits = (
        (bases is None or (base != [] and all(each in bases for each in base)))
        and (begins is None or begins <= day)
        and (ends is None or day <= ends)
        and (most is None or offers <= most)
    )
    assert (list(beyond(offered, limits)) == []) is fits


# -- a base model --------------------------------------------------------------------------------


def test_a_base_is_what_sha256sum_says_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"whole")
    model = Model(source="hub", path=str(folder), labels=("a", "b"))
    whole = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert checkpoint(model) == (whole,)
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model-2.safetensors").write_bytes(b"more")
    index = '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    (folder / "model.safetensors.index.json").write_text(index)
    more = hashlib.sha256(b"more").hexdigest()
    assert checkpoint(model) == tuple(sorted([whole, more]))
    (folder / "model-2.safetensors").unlink()
    assert checkpoint(model) == ()
    assert checkpoint(Model(labels=("a", "b"))) == ()  # tiny has no files


def test_a_site_holds_its_own_files_against_its_policy_whatever_the_offer_says(
    tmp_path: Path,
) -> None:
    check_checkpoint((A,), Limits(bases=(A,)))
    for found in ((), (B,), (A, B)):
        with pytest.raises(RefusedError, match=r"policy\.bases") as caught:
            check_checkpoint(found, Limits(bases=(A,)))
        assert "bbbb" not in str(caught.value)
    # The offer says what the policy likes, and the job starts from something else.
    made: Any = transformers
    config = made.BertConfig(
        vocab_size=300,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
    )
    folder = write_checkpoint(tmp_path / "model", config)
    (own,) = checkpoint(model := Model(source="hub", path=str(folder), labels=("a", "b")))
    job = real_job(model=replace(model, max_length=16), train=PLAIN.train)
    SiteRun(
        wire.Offer(run="test", job=job, base=(own,)),
        make_site(tmp_path, rows(20), limits=Limits(bases=(own,))),
    )
    site = make_site(tmp_path, rows(20), limits=Limits(bases=(A,)))
    for other in (job, PLAIN):
        with pytest.raises(RefusedError, match="its own files of this job's model"):
            SiteRun(wire.Offer(run="test", job=other, base=(A,)), site)
        with pytest.raises(RefusedError, match=r"policy\.bases="):
            SiteRun(wire.Offer(run="test", job=other, base=(own,)), site)


def test_a_base_travels_and_nothing_else_does_in_its_place() -> None:
    offer = wire.Offer(run="test", job=make_job(), base=(A, B))
    assert wire.decode_offer(wire.encode_offer(offer)) == offer
    wrong = wire.encode_offer(replace(offer, base=("../model",)))
    with pytest.raises(Exception, match="SHA-256 digests"):
        wire.decode_offer(wrong)


def test_the_digest_of_minilm_in_the_documents_is_that_of_its_file() -> None:
    try:
        (found,) = checkpoint(Model(source="minilm", labels=("a", "b")))
    except MissingExtraError:
        pytest.skip("minilm isn't installed")
    text = Path(__file__).resolve().parents[2] / "docs/governance.md"
    assert found in text.read_text(encoding="utf-8")


# -- days and offers -----------------------------------------------------------------------------


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def why(reply: Any) -> str:
    return str(reply.error.reason) if reply.has_error() else ""


def test_a_run_that_was_joined_stops_when_the_policy_ends(tmp_path: Path) -> None:
    clock = Clock()
    talk = Talk(tmp_path, limits=Limits(ends="2026-11-30"))
    talk.restart(clock=clock)
    assert not talk.join(PLAIN).has_error()
    vector = wire.pack(talk.learner.initial)
    assert not talk.send("train", wire.encode_order("test", 1, PLAIN.sha256, vector)).has_error()
    clock.now += timedelta(hours=12)
    order = wire.encode_order("test", 2, PLAIN.sha256, vector)
    assert "policy.ends=2026-11-30" in why(talk.send("train", order))
    assert "policy.ends=2026-11-30" in why(talk.join(PLAIN))


def test_offers_are_counted_by_run_and_job_over_restarts(tmp_path: Path) -> None:
    clock = Clock()
    talk = Talk(tmp_path, limits=Limits(offers=2), approval="each")

    def heard(run: str, job: Any = PLAIN) -> str:
        talk.restart(clock=clock)
        return why(talk.join(job, run=run))

    waits = "waits for the approval"
    assert waits in heard("first")
    assert waits in heard("first", PRIVATE)  # another job of the run
    for _ in range(3):
        assert waits in heard("first")  # not a new one
        assert "policy.offers=2" in heard("third")
    file = talk.site.state.folder / "offered.json"
    before = file.read_bytes()
    for number in range(20):
        assert "policy.offers=2" in heard(f"flood-{number}")
    assert file.read_bytes() == before
    assert len(talk.site.approvals.all()) == 2
    clock.now += timedelta(hours=24)
    assert waits in heard("third")
    assert waits in heard("first")  # still known, a day later
    assert waits in heard("fourth")
    assert "policy.offers=2" in heard("fifth")


def test_what_the_policy_rules_out_counts_as_no_offer(tmp_path: Path) -> None:
    talk = Talk(tmp_path, limits=Limits(offers=1, rounds=1))
    for number in range(3):
        assert "policy.rounds" in why(talk.join(PLAIN, run=f"run-{number}"))
    assert not (talk.site.state.folder / "offered.json").exists()


def test_what_was_noted_of_late_is_bounded_and_a_broken_file_is_named(tmp_path: Path) -> None:
    recent = Recent(tmp_path / "a" / "recent.json", kept=3)
    keys = [hashlib.sha256(bytes([i])).hexdigest() for i in range(8)]
    for number, key in enumerate(keys[:2], start=1):
        assert recent.would_be(key, NOON) == number
        assert recent.note(key, NOON, most=2) == number
    assert recent.note(keys[2], NOON, most=2) == 3
    assert recent.would_be(keys[2], NOON) == 3  # it wasn't noted
    back = NOON - timedelta(days=9)  # a clock that was set back makes no room
    assert recent.note(keys[2], back, most=2) == 3
    for day, key in enumerate(keys[2:], start=1):
        assert recent.note(key, NOON + timedelta(days=day), most=2) == 1
    assert [recent.would_be(key, NOON) == 0 for key in keys] == [False] * 5 + [True] * 3
    (tmp_path / "a" / "recent.json").write_bytes(b"{}x")
    with pytest.raises(RunFolderError, match=r"recent\.json can't be read"):
        recent.would_be(keys[0], NOON)
