"""A hospital's own file: read whole or refused, and no line of it counts for nothing."""

import json
import os
import re
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.declared import Declared
from clients.limits import Limits
from clients.policy import Policy, decide
from clients.site_file import SiteFile, policy_of
from clients.start import start
from fedmodel import config
from fedmodel._paths import conf_dir
from fedmodel._yaml import LARGEST, parse_yaml
from fedmodel.cli.composing import compose
from fedmodel.errors import ConfigError, DataError, FedmodelError, RefusedError
from fedmodel.job import Performance, Privacy
from fedmodel.ledger.caps import Caps
from fedmodel.provision.site_file import PRESETS, site_file_text, write_site_file
from fedmodel.secagg.agreement import Floors
from tests.clients.test_policy import JOB

HERE = Path("/somewhere")
VECTORS = Path(__file__).parents[1] / "vectors" / "site_v1"
STRICT = site_file_text("north", "strict")


def parse(text: str) -> SiteFile:
    return SiteFile.parse(text.encode(), HERE)


def changed(line: str, to: str, text: str = STRICT) -> SiteFile:
    """Return a file in which the key of a line has another value: the last one called so."""
    found = list(re.finditer(rf"(?m)^{re.escape(line)}: .*$", text))
    return parse(f"{text[: found[-1].start()]}{line}: {to}{text[found[-1].end() :]}")


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_written_at_first_is_read_and_is_the_preset(preset: Any) -> None:
    said = parse(site_file_text("north", preset))
    assert said.name == "north"
    assert said.policy == policy_of(preset, {"approval": {"approval": "each"}})
    assert said.state == HERE
    assert said.declared is None
    assert (said.preset, said.dataset, said.performance) == (preset, "main", None)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_names_every_rule_and_a_simulation_has_the_same(preset: str) -> None:
    known = parse_yaml((conf_dir() / "policy" / f"{preset}.yaml").read_bytes())
    for group, kind in (("policy", Limits), ("budget", Caps), ("floors", Floors)):
        assert list(known[group]) == [each.name for each in fields(kind)], group
    composed = compose("simulate", [f"policy={preset}"])
    for group in ("policy", "floors"):
        assert composed[group] == known[group]
    assert {key: composed["budget"][key] for key in known["budget"]} == known["budget"]


@pytest.mark.long
@given(st.text(min_size=1).filter(str.strip))
def test_any_name_is_read_as_it_was_written(name: str) -> None:
    try:
        text = site_file_text(name, "strict").encode()
    except UnicodeEncodeError:
        return
    assert SiteFile.parse(text, HERE).name == name


@pytest.mark.long
def test_a_line_that_is_lost_loosens_nothing() -> None:
    rules = STRICT.index("\npolicy:")
    for number, line in enumerate(STRICT.splitlines()):
        if not line.startswith("  ") or STRICT.index(line) < rules:
            continue
        lines = STRICT.splitlines()
        del lines[number]
        assert parse("\n".join(lines)).policy == parse(STRICT).policy, line
    assert parse(STRICT[:rules]).policy == parse(STRICT).policy


def test_what_is_written_outranks_the_preset_and_null_is_no_limit() -> None:
    assert changed("  epsilon", "1.5", _only("policy")).policy.limits.epsilon == 1.5
    assert changed("  epsilon", "null", _only("policy")).policy.limits.epsilon is None
    assert changed("  secagg", "off").policy.limits.secagg == "off"
    assert changed("  train", "[full]").policy.limits.train == ("full",)
    assert changed("  ends", "2027-01-31").policy.limits.ends == "2027-01-31"
    assert changed("  honest", "5").policy.floors.honest == 5
    assert changed("approval", "auto").policy.approval == "auto"
    performance = changed("performance", "{device: cpu, physical_batch: 4}").performance
    assert performance == Performance(device="cpu", physical_batch=4)
    declared = changed("  records", "[5, 9]").declared
    assert declared == Declared(records=(5, 9), held_out=True)


def _only(group: str) -> str:
    """Return the file with the rules of one group alone."""
    before, rules = STRICT.split("\npolicy:", 1)
    whole = "policy:" + rules
    parts = re.split(r"(?m)^(?=\w+:)", whole)
    return before + "\n" + next(part for part in parts if part.startswith(group))


@pytest.mark.parametrize(
    ("line", "to", "says"),
    [
        ("  epsilom", "3", "unknown key 'policy.epsilom' (did you mean 'epsilon'?)"),
        ("nam", "x", "unknown key 'nam' (did you mean 'name'?)"),
        ("  private", "maybe", "policy.private must be true or false"),
        ("  secagg", "sometimes", "policy.secagg='sometimes' isn't a choice"),
        ("  train", "[]", "policy.train is an empty list"),
        ("  records", "[9, 5]", "declared.records must be two numbers"),
        ("  records", "12", "declared.records must be two numbers"),
        ("  address", "example.org", "coordinator.address: expected a host name and a port"),
        (
            "  address",
            "https://fl.org:8443",
            "coordinator.address: expected a host name and a port",
        ),
        ("  address", "example.org:99999", "coordinator.address: expected a host name and a port"),
        ("preset", "lax", "preset='lax' isn't a choice"),
        ("schema", "fedmodel.site/2", "expected 'schema: fedmodel.site/1'"),
        ("name", '""', "name is empty"),
        ("name", "12", "name must be text"),
        ("dataset", "../x", "can't name a file"),
        ("  kind", "cvs", "data.kind='cvs' isn't a choice"),
        ("  txt", "x", "unknown key 'data.txt' (did you mean 'text'?)"),
        ("approval", "never", "approval='never' isn't a choice"),
        ("state", "''", "state is empty"),
        ("state", "~nobody-here/x", "has no home folder that is known"),
        # As YAML 1.1 has numbers these are 8, 90, 16, 1000: a reader sees others, or none.
        ("  rounds", "010", "policy.rounds must be a whole number, got '010'"),
        ("  rounds", "1:30", "policy.rounds must be a whole number, got '1:30'"),
        ("  rounds", "0x10", "policy.rounds must be a whole number, got '0x10'"),
        ("  rounds", "1_000", "policy.rounds must be a whole number, got '1_000'"),
        ("  records", "[010, 20]", "declared.records[0] must be a whole number, got '010'"),
        ("  clip", "1:30.5", "policy.clip must be a number, got '1:30.5'"),
    ],
)
def test_what_is_wrong_is_named(line: str, to: str, says: str) -> None:
    text = STRICT.replace("train: null  # file", "train: rows.csv  # file")
    known = {"epsilom": "private", "nam": "dataset", "txt": "text"}
    bare = line.strip()
    if bare in known:
        text = re.sub(rf"(?m)^(\s*){known[bare]}:", rf"\1{bare}:", text, count=1)
    with pytest.raises(ConfigError, match=re.escape(says)):
        changed(line, to, text)


def test_rows_of_a_user_who_is_not_here_are_named() -> None:
    text = STRICT.replace("train: null  # file", "train: ~nobody-here/rows.csv  # file")
    with pytest.raises(ConfigError, match=r"data\.train='~nobody-here/rows\.csv' begins with ~"):
        parse(text)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("name: again\n", "got the key 'name' a second time"),
        ("policy:\n  private: false\n", "got the key 'policy' a second time"),
        ("x: &a 1\n", "anchor or alias"),
        ("x: !!python/object:os.system 1\n", "a tag (!)"),
        ("x: !include y\n", "a tag (!)"),
        ("? [a, b]\n: 1\n", "a key that is no word"),
        ("x: {y: [1, 2\n", "isn't YAML"),
        ("\tx: 1\n", "isn't YAML"),
        (f"x: {'[' * 20}{']' * 20}\n", "more than 8 deep"),
        ("x: 1\n", "unknown key 'x'"),
        ("<<: {y: 1}\n", "unknown key '<<'"),
        ("# a comment\u2028preset: trial\n", "a character (U+2028) that shows"),
        ("# a comment\u0085preset: trial\n", "a character (U+0085) that shows"),
        ("# \u202e\n", "a character (U+202E) that shows"),
    ],
)
def test_only_plain_yaml_is_read_and_each_key_once(more: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        parse(f"{STRICT}{more}")


def test_sizes_come_first_and_what_isnt_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"at most {LARGEST} bytes"):
        parse(STRICT + "#" * LARGEST)
    for bad in (b"\xff\xfe", b"", b"- a\n", b"just words", b"\x00"):
        with pytest.raises(ConfigError):
            SiteFile.parse(bad, HERE)
    with pytest.raises(ConfigError, match=r"can't read .*No such file"):
        SiteFile.read(tmp_path / "site.yaml")
    (tmp_path / "site.yaml").write_text("x: [")
    with pytest.raises(ConfigError, match=r"site\.yaml: line 1: "):
        SiteFile.read(tmp_path / "site.yaml")


def test_a_link_to_a_file_begins_no_state_of_its_own(tmp_path: Path) -> None:
    filled((tmp_path / "real").resolve(), "[20, 90]")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "site.yaml").symlink_to(tmp_path / "real" / "site.yaml")
    said = SiteFile.read(tmp_path / "etc" / "site.yaml")
    assert said.state == (tmp_path / "real").resolve()
    os.mkfifo(tmp_path / "pipe.yaml")
    for other in ("pipe.yaml", "etc"):
        with pytest.raises(ConfigError, match="it isn't a file"):
            SiteFile.read(tmp_path / other)


@pytest.mark.long
@given(st.data())
def test_a_damaged_file_is_read_otherwise_or_refused_and_never_crashes(data: st.DataObject) -> None:
    text = bytearray(STRICT.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with suppress(FedmodelError):
        SiteFile.parse(bytes(text), HERE)


def test_strict_rules_refuse_what_would_be_trained_in_the_clear() -> None:
    policy = parse(STRICT).policy
    for job in (JOB, replace(JOB, privacy=Privacy())):
        with pytest.raises(RefusedError, match=r"policy\.(secagg|private)"):
            decide(job, policy)


def test_a_file_is_written_once_and_not_over_what_people_wrote(tmp_path: Path) -> None:
    assert write_site_file(tmp_path, "north", "strict")
    path = tmp_path / "site.yaml"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("ours")
    assert not write_site_file(tmp_path, "north", "trial")
    assert path.read_text() == "ours"


# -- the start by it -----------------------------------------------------------------------------


def filled(folder: Path, records: str, rows: int = 40, more: str = "") -> SiteFile:
    lines = ["text,label,who"]
    lines += [f"a note {i},{'ab'[i % 2]},p{i // 2}" for i in range(rows)]
    folder.mkdir(exist_ok=True)
    (folder / "rows.csv").write_text("\n".join(lines))
    text = STRICT.replace("train: null  # file", "train: rows.csv  # file")
    text = text.replace("patient: null  # column", "patient: who  # column")
    text = text.replace("  records: null", f"  records: {records}{more}")
    (folder / "site.yaml").write_text(text)
    return SiteFile.read(folder / "site.yaml")


def test_a_site_starts_from_its_file(tmp_path: Path) -> None:
    site = start(filled(tmp_path, "[20, 90]"))
    assert site.test is not None
    assert len(site.rows) + len(site.test) == 40
    assert site.rows.patients is not None
    assert not set(site.rows.patients) & set(site.test.patients or ())
    assert site.declared == Declared(records=(20, 90), held_out=True)
    assert site.policy == policy_of("strict", {})
    assert site.state.folder == tmp_path
    again = start(filled(tmp_path, "[20, 90]"))
    assert again.rows == site.rows  # the same are held out, whatever the run


def test_rows_that_do_not_keep_to_what_is_declared_are_told_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DataError, match="says 10 to 39, and the rows have 40"):
        start(filled(tmp_path, "[10, 39]"))
    start(filled(tmp_path, "[41, 99]"))
    assert "declared.records says 41 to 99, and the rows have 40" in caplog.text
    with pytest.raises(DataError, match=r"declared\.records is null"):
        start(filled(tmp_path, "null"))
    with pytest.raises(ConfigError, match=r"data\.train is null"):
        start(replace(parse(STRICT), declared=Declared(records=(1, 9))))


def test_rows_of_another_dataset_are_told_at_the_start(tmp_path: Path) -> None:
    site = start(filled(tmp_path, "[20, 90]"))
    site.state.note_rows(site.open_ledger(), *site.columns())
    again = filled(tmp_path, "[20, 90]")
    start(again)  # of the same dataset they may be
    with pytest.raises(DataError, match="part of dataset 'main' of this site"):
        start(replace(again, dataset="wards"))
    assert not (tmp_path / "ledgers" / "wards.jsonl").exists()


def test_nothing_is_held_out_where_a_site_says_so(tmp_path: Path) -> None:
    file = filled(tmp_path, "[20, 90]")
    assert file.declared is not None
    site = start(replace(file, declared=replace(file.declared, held_out=False)))
    assert site.test is None
    assert len(site.rows) == 40


# -- golden --------------------------------------------------------------------------------------


def part_of(found: Any, expected: Any) -> Any:
    """Return the part that was known when the file was written: later versions know more keys."""
    if not isinstance(expected, dict):
        return found
    return {key: part_of(found[key], value) for key, value in expected.items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_what_the_first_version_wrote_is_read_as_it_was_meant(preset: str) -> None:
    """A file with all keys said, so that no later preset changes what it means."""
    said = SiteFile.read(VECTORS / f"{preset}.yaml")
    expected = json.loads((VECTORS / f"{preset}.json").read_text())
    assert part_of(config.to_mapping(said.policy), expected["policy"]) == expected["policy"]
    assert config.to_mapping(said.declared) == expected["declared"]
    assert said.name == expected["name"]
    assert isinstance(said.policy, Policy)
