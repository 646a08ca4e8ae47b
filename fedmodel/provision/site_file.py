"""The file of a hospital's own, ``site.yaml``, as it is at first: every key with its comment."""

import json
from pathlib import Path

from fedmodel import _files
from fedmodel._paths import conf_dir

__all__ = ["PRESETS", "SITE_FILE", "site_file_text", "write_site_file"]

SITE_FILE = "site.yaml"
PRESETS = ("strict", "trial")

_TEXT = """\
# {name}: what this hospital brings to jobs, and what it allows.
# It is yours to change, and outranks every job; none of it is sent.
# After a change: fedmodel site check site=site.yaml
schema: fedmodel.site/1
name: {name}  # as the roster has it
state: .  # folder of keys, roster, ledgers and approvals; paths begin at this file's folder
dataset: main  # name of the rows below, for the ledger: one name for the same rows, always
task: sequence-classification  # one label for each text; multi-label-classification: any number

data:  # where the rows are; every key is explained by: fedmodel simulate data=csv --help
  kind: csv  # csv, jsonl, parquet, excel, folder or hub
  train: null  # file or folder of the rows
  text: text  # column of the text
  label: label  # column of the label
  patient: null  # column of the patient
  test_fraction: 0.2  # of the rows, held out to test with; they are never trained on

declared:  # what you say of your rows, publicly: no answer to a job follows from aught else
  records: null  # how many rows, at least and at most, such as [500, 2000]; seldom changed
  patients: null  # of how many patients, at least and at most; null: the rows don't name them
  labels: null  # classes that they have, such as [cardiac, other]; null: you don't say
  held_out: true  # whether some are held out to test with

performance: null  # how this machine goes about a job; null: as the coordinator proposes. Or:
#  physical_batch: 32  # rows in one forward pass: memory
#  device: auto  # auto, cpu or cuda

coordinator:
  address: null  # host and port, such as fl.example.org:8443
  passphrase: null  # where it is read: prompt, fd:N or credential:NAME; null: keys in the clear
  proxy: null  # http://HOST:PORT, or none: never; null: https_proxy and no_proxy say it

approval: {approval}  # each: your people approve every run (fedmodel site); auto: all below
approvers: []  # who they are, NAME KEY each (fedmodel site key); none: whoever has this site's key
needed: 1  # how many of them must have approved a run

preset: {preset}  # {about}. What isn't said below is as this preset has it
{rules}"""


def site_file_text(name: str, preset: str, *, approval: str = "each") -> str:
    """Return a site's file as it is at first.

    Args:
        name: of the site.
        preset: whose rules it begins with.
        approval: ``each`` or ``auto``.
    """
    lines = (conf_dir() / "policy" / f"{preset}.yaml").read_text(encoding="utf-8").splitlines()
    about = lines[1].removeprefix("# ")
    rules = "\n".join(line for line in lines if not line.startswith("#"))
    # A text in JSON is one in YAML, but for what can't be printed.
    said = "".join(
        letter if letter.isprintable() else f"\\U{ord(letter):08x}"
        for letter in json.dumps(name, ensure_ascii=False)
    )
    return _TEXT.format(
        name=said, preset=preset, approval=approval, about=about, rules=f"{rules}\n"
    )


def write_site_file(folder: Path, name: str, preset: str, *, approval: str = "each") -> bool:
    """Write a site's file, where there is none yet; return whether it was written.

    Args:
        folder: of the site's keys.
        name: of the site.
        preset: whose rules it begins with.
        approval: ``each`` or ``auto``.
    """
    path = folder / SITE_FILE
    if path.exists():
        return False
    text = site_file_text(name, preset, approval=approval)
    _files.write_atomic(path, text.encode(), mode=0o600)
    return True
