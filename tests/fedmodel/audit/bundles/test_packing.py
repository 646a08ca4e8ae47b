"""Packing and verifying: the same bytes each time, no secret in them, and what each check says."""

import functools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from fedmodel import cli
from fedmodel.audit.bundles import container, statement
from fedmodel.audit.bundles.dsse import sign
from fedmodel.audit.bundles.evidence import BundleEvidence
from fedmodel.audit.bundles.packing import in_memory, pack
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verdicts import Verdict
from fedmodel.audit.verify import verify
from fedmodel.errors import ConfigError, EvidenceError
from fedmodel.identity.keyfile import secret_text, write_secret
from tests.fedmodel.audit.bundles.conftest import Packed, claim_of, sha256
from tests.fedmodel.audit.conftest import Forge, findings_of
from tests.fedmodel.audit.forged import GOLDEN, key_of
from tests.fedmodel.audit.played import play
from tests.small_disk import SmallDisk

AUDITOR = (
    "as=key",
    'name="An Auditor"',
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_secret(tmp_path / "key", secret_text(bytes(range(32)), "key"))
    return tmp_path


def checks(path: Path, packer: str | None = None) -> dict[str, tuple[Verdict, str]]:
    """Return what each check of the bundle itself has found."""
    found = verify(read_records(BundleEvidence(path, packer))).checks["bundle"]
    return {each.name: (each.verdict, each.reason) for each in found}


def test_it_is_the_same_wherever_it_is_packed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(GOLDEN / "record", here / "runs" / "demo"))
    assert cli.main(["bundle", "run=demo", "to=one.zip", *AUDITOR]) == 0
    out = capsys.readouterr().out
    assert "signed by 'An Auditor'" in out
    assert "a ledger has every run of its dataset" in out
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    for number, path in enumerate(sorted(run.rglob("*"), reverse=True)):
        os.utime(path, (number, number))
    before = os.umask(0o007)
    try:
        args = ["bundle", f"run={run}", "to=two.zip", "as=../key", AUDITOR[1]]
        assert cli.main(args) == 0
        assert cli.main(args) == 0  # it is that bundle
    finally:
        os.umask(before)
    assert (here / "one.zip").read_bytes() == (elsewhere / "two.zip").read_bytes()
    assert sorted(path.name for path in elsewhere.iterdir()) == ["two.zip"]
    (run / "metrics.jsonl").write_text("")
    assert cli.main(args) == 2
    assert "is there already, and is something else" in capsys.readouterr().err
    assert sha256(here / "one.zip") == sha256(elsewhere / "two.zip")


def test_a_bundle_verifies_as_its_folder_does(packed: Packed) -> None:
    for kind in ("record", "on", "none"):
        of_bundle = dict(verify(read_records(BundleEvidence(packed(kind, f"{kind}.zip")))).checks)
        assert not [c for c in of_bundle.pop("bundle") if c.verdict == Verdict.FAIL]
        assert of_bundle == findings_of(GOLDEN / kind).checks


def test_a_model_that_was_left_out_is_named_by_its_digest(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = GOLDEN / "record"
    assert cli.main(["bundle", f"run={run}", "to=run.zip", *AUDITOR]) == 0
    assert "the model isn't in it, only its digest" in capsys.readouterr().out
    found = BundleEvidence(here / "run.zip")
    assert found.names("model") == []
    assert found.signed.parts["model/trained.safetensors"] == sha256(
        run / "model" / "trained.safetensors"
    )
    (check,) = verify(read_records(found)).checks["model"][:1]
    assert (check.verdict, check.reason) == (
        Verdict.NOT_TESTED,
        "the bundle was packed without the model",
    )


def test_no_secret_of_a_run_folder_is_in_it(here: Path) -> None:
    run = Path(shutil.copytree(GOLDEN / "record", here / "run"))
    secrets = {
        "sites/site-1/key": secret_text(b"k" * 32, "key"),
        "sites/site-1/salt": secret_text(b"s" * 32, "salt"),
        "sites/site-1/leaves/main.bin": b"L" * 64,
        "sites/site-1/security.jsonl": b"SECURITY-LOG",
        "coordinator/key": secret_text(b"c" * 32, "key"),
        "coordinator/consortium/register.json": b"REGISTER",
        "coordinator/consortium/consortium-key": secret_text(b"C" * 32, "consortium-key"),
        "pending/sum.safetensors": b"P" * 64,
        "run.log": b"LOG-OF-THE-RUN",
        "rows.csv": b"ROWS-OF-PATIENTS",
    }
    for name, text in secrets.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(text)
        (run / name).chmod(0o600)
    assert cli.main(["bundle", "run=./run", "to=run.zip", "weights=true", *AUDITOR]) == 0
    whole = (here / "run.zip").read_bytes()
    for text in [*secrets.values(), bytes(range(32)), bytes(range(32)).hex().encode()]:
        assert text not in whole
        for digits in re.findall(rb"[0-9a-f]{64}", text):
            assert digits not in whole
            assert bytes.fromhex(digits.decode()) not in whole


# -- what the checks say -------------------------------------------------------------------------


def test_who_packed_it(packed: Packed) -> None:
    path, own = packed(), key_of("auditor").fingerprint
    verdict, why = checks(path)["bundle-packer"]
    assert verdict == Verdict.NOT_TESTED
    assert "nobody here vouches for the key" in why
    assert checks(path, own)["bundle-packer"][0] == Verdict.PASS
    assert checks(path, key_of("x").fingerprint)["bundle-packer"][0] == Verdict.FAIL
    key = key_of("auditor").public.hex()
    roles: list[Literal["coordinator", "site"]] = ["coordinator", "site"]
    for role in roles:
        said = statement.Packer(key=key, role=role, name="site-1")
        found = checks(packed(name=f"{role}.zip", packer=said))["bundle-packer"]
        assert found[0] == Verdict.FAIL
        assert "no roster here has that key in that role" in found[1]


def test_a_site_that_is_on_the_roster_may_pack(forge: Forge, tmp_path: Path) -> None:
    forged = forge()
    key = key_of("site-1")
    packer = statement.Packer(key=key.public.hex(), role="site", name="site-1")
    parts = {
        str(path.relative_to(forged.path)): path.read_bytes()
        for path in forged.path.rglob("*.*")
        if path.is_file()
    }
    pack(tmp_path / "b.zip", claim_of(forged.path, packer=packer), in_memory(parts), key)
    assert checks(tmp_path / "b.zip")["bundle-packer"] == (
        Verdict.PASS,
        "a roster has its key as that site's",
    )


def test_a_claim_that_another_key_has_signed(packed: Packed, tmp_path: Path) -> None:
    claim = claim_of(GOLDEN / "record")
    text = (GOLDEN / "record" / "manifest.json").read_bytes()
    pack(tmp_path / "b.zip", claim, in_memory({"manifest.json": text}), key_of("x"))
    assert checks(tmp_path / "b.zip")["bundle-signed"][0] == Verdict.FAIL


def test_a_bundle_of_another_run_than_it_says(packed: Packed) -> None:
    found = checks(packed(name="a.zip", job_sha256="0" * 64))
    assert found["bundle-run"][0] == Verdict.FAIL


def names_of(bundle: BundleEvidence) -> list[str]:
    return bundle._archive.names


def again(bundle: BundleEvidence, name: str) -> container.Filed:
    """Return a member of a bundle, to be packed again."""
    return container.member(name, functools.partial(bundle._archive.chunks, name))


def test_a_part_that_its_packer_hasnt_signed_for(packed: Packed, tmp_path: Path) -> None:
    one, two = packed(), packed(name="two.zip", changed={"metrics.jsonl": b""})
    first, second = BundleEvidence(one), BundleEvidence(two)
    members = [again(second if number else first, n) for number, n in enumerate(names_of(first))]
    (tmp_path / "mixed.zip").write_bytes(b"".join(container.archive(members)))
    verdict, _ = checks(tmp_path / "mixed.zip")["bundle-parts"]
    assert verdict == Verdict.FAIL


def test_a_part_too_few_or_too_many(packed: Packed, tmp_path: Path) -> None:
    whole = BundleEvidence(packed())
    names = names_of(whole)

    def rebuilt(left: list[str]) -> Path:
        parts = [again(whole, name) for name in left]
        path = tmp_path / "rebuilt.zip"
        path.write_bytes(b"".join(container.archive(parts)))
        return path

    with pytest.raises(EvidenceError, match=r"lacks 'summary.json', which it says it has"):
        BundleEvidence(rebuilt([name for name in names if name != "summary.json"]))
    less = BundleEvidence(packed(name="less.zip", changed={"summary.json": None}))
    parts = [again(less, names[0]), *(again(whole, name) for name in names[1:])]
    (tmp_path / "more.zip").write_bytes(b"".join(container.archive(parts)))
    with pytest.raises(EvidenceError, match="which its statement doesn't list"):
        BundleEvidence(tmp_path / "more.zip")


def test_one_of_a_newer_version_is_said_to_be(tmp_path: Path) -> None:
    claim: Any = {"schema": "fedmodel.bundle/2", "new": True}
    payload = json.dumps({"predicate": claim}).encode()
    envelope = sign(payload, key_of("x"))
    head = container.member("statement.dsse.json", lambda: [envelope.to_json()])
    (tmp_path / "new.zip").write_bytes(b"".join(container.archive([head])))
    with pytest.raises(EvidenceError, match="a newer fedmodel has written it"):
        BundleEvidence(tmp_path / "new.zip")


# -- the verbs -----------------------------------------------------------------------------------


def test_the_command_ends_as_for_a_folder(
    packed: Packed, capsys: pytest.CaptureFixture[str]
) -> None:
    path, own = packed(), key_of("auditor").fingerprint
    assert cli.main(["verify", f"bundle={path}", f"packer={own}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["checks"][0]["check"] == "bundle-signed"
    other = key_of("x").fingerprint
    assert cli.main(["verify", f"bundle={path}", f"packer={other}"]) == 1
    path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    assert cli.main(["verify", f"bundle={path}"]) == 2
    out = capsys.readouterr()
    assert (out.out, out.err.count("\n")) == ("", 1)
    assert "isn't a bundle as fedmodel packs it" in out.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["verify", "run=x", "bundle=y"], "run= or bundle=, not both"),
        (["verify", "run=x", "packer=y"], "packer is about a bundle"),
        (["bundle"], "bundle needs run="),
        (["bundle", "run=x"], "bundle needs to="),
        (["bundle", "run=x", "to=y", "as=z"], "go together"),
        (["bundle", "run=x", "to=y", "home=z", *AUDITOR], "not both"),
        (["bundle", "run=nothing", "to=y", *AUDITOR], "there is no folder"),
        (["bundle", f"run={GOLDEN / 'none'}", "to=y"], "is no party's folder; say who signs it"),
        (["bundle", f"run={GOLDEN / 'none'}", "to=no/y", *AUDITOR], "No such file"),
        (["bundle", f"run={GOLDEN / 'none'}", "to=y", "as=no", "name=x"], "make your key"),
    ],
)
def test_wrong_usage(
    args: list[str], says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(args) == 2
    assert says in capsys.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["key"]


def test_a_full_disk_leaves_nothing(here: Path) -> None:
    if (why := SmallDisk.missing(here)) is not None:
        pytest.skip(why)
    disk = here / "disk"
    disk.mkdir()
    code = (
        "import sys, os; from pathlib import Path; sys.argv[1:]\n"
        "disk, run = Path(sys.argv[1]), sys.argv[2]\n"
        "f = open(disk / 'filling', 'wb', buffering=0)\n"
        "try:\n    while True: f.write(bytes(4096))\n"
        "except OSError: pass\n"
        "from fedmodel import cli\n"
        "code = cli.main(['bundle', f'run={run}', f'to={disk}/run.zip', 'as=key', 'name=x'])\n"
        "print(code, sorted(os.listdir(disk)))\n"
    )
    command = [sys.executable, "-c", code, str(disk), str(GOLDEN / "none")]
    done = subprocess.run(
        SmallDisk(disk).within(command), capture_output=True, text=True, check=False, cwd=here
    )
    assert done.stdout.strip() == "2 ['filling']", done.stderr
    assert "No space left" in done.stderr


def test_a_part_that_changes_while_it_is_packed(tmp_path: Path) -> None:
    texts = iter([b"one", b"two"])
    claim = claim_of(GOLDEN / "none")
    with pytest.raises(ConfigError, match=r"can't be written: .* was changed while it was packed"):
        pack(tmp_path / "x.zip", claim, {"summary.json": lambda: [next(texts)]}, key_of("x"))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_its_owners_to_give_away(packed: Packed) -> None:
    assert stat.S_IMODE(packed().stat().st_mode) == 0o600


@pytest.mark.slow
def test_a_simulations_coordinator_packs_what_it_has_played(here: Path) -> None:
    run = play("record", here)
    assert cli.main(["bundle", f"run={run}", "to=run.zip", "weights=true"]) == 0
    assert {verdict for verdict, _ in checks(here / "run.zip").values()} == {
        Verdict.PASS,
        Verdict.NOT_TESTED,  # its sites have handed nothing in themselves
    }
    assert checks(here / "run.zip")["bundle-packer"][0] == Verdict.PASS
    whole = (here / "run.zip").read_bytes()
    secrets = [p for name in ("key", "salt", "*-key") for p in run.rglob(name) if p.is_file()]
    assert len(secrets) > len("key")
    for path in secrets:
        digits = path.read_text().split()[1]
        assert digits.encode() not in whole
        assert bytes.fromhex(digits) not in whole


def test_a_part_that_vanishes_while_it_is_packed_leaves_nothing(tmp_path: Path) -> None:
    asked: list[int] = []

    def vanishing() -> Iterator[bytes]:
        asked.append(1)
        if len(asked) > 1:
            raise EvidenceError("it is gone")
        yield b"x"

    with pytest.raises(ConfigError, match="it is gone"):
        pack(
            tmp_path / "x.zip", claim_of(GOLDEN / "none"), {"summary.json": vanishing}, key_of("x")
        )
    assert list(tmp_path.iterdir()) == []
