"""The built wheel: one top-level name, and it runs the demo job from an empty folder."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.long
def test_the_wheel_has_one_top_level_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"fedmodel"}
    for inside in (
        "fedmodel/_app/server/app.py",
        "fedmodel/_app/clients/app.py",
        "fedmodel/_app/simulations/run.py",
        "fedmodel/_app/conf/simulate.yaml",
        "fedmodel/models/tiny_vocab.txt",
        "fedmodel/models/tiny_sample.txt",
        "fedmodel/py.typed",
    ):
        assert inside in names


@pytest.mark.slow
def test_the_wheel_runs_the_demo_job_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    # The dependencies come from this environment; its editable fedmodel doesn't, since a folder
    # that a .pth file names has its own .pth files ignored.
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    fedmodel = str(tmp_path / "env" / "bin" / "fedmodel")

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=empty, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = run(str(python), "-c", "import fedmodel; print(fedmodel.__file__)")
    assert Path(where.strip()).is_relative_to(tmp_path)
    assert "train.rounds" in run(fedmodel, "simulate", "--help")
    assert "run folder: runs/" in run(fedmodel, "simulate", "debug=fast", "run=demo")
    run(fedmodel, "export", "run=demo", "to=exported")
    assert (empty / "exported" / "model.safetensors").exists()
