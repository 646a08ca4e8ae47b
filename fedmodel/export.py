"""The verb ``export``: a finished run's model as a Hugging Face folder with a model card."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from fedmodel import config
from fedmodel._escape import escaped
from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.job import Job, Performance
from fedmodel.runs import RunFolder, run_path

__all__ = ["export_run", "main"]

Form: TypeAlias = Literal["merged", "adapter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked.

    Args:
        run: a run's name or folder.
        to: folder to write.
        form: ``merged`` or ``adapter``.
    """

    run: str | None = None
    to: str | None = None
    form: Form = "merged"


def main(
    mappings: Sequence[dict[str, Any]],
    *,
    given: Sequence[Sequence[str]] = (),
    labels: object = None,
) -> int:
    """Export one run.

    Args:
        mappings: the composed configuration: ``run``, ``to`` and ``form``.
        given: unused.
        labels: unused; a sweep makes no sense here.

    Returns:
        The exit code.

    Raises:
        ConfigError: for a missing or unknown value.
    """
    if len(mappings) != 1:
        raise ConfigError("export writes one run at a time; leave -m out")
    ask = config.build(Ask, mappings[0])
    if not ask.run:
        raise ConfigError("export needs run=<the run's name or folder>")
    if not ask.to:
        raise ConfigError("export needs to=<a folder to write>")
    to = export_run(run_path(ask.run), Path(ask.to).expanduser(), ask.form)
    print(escaped(f"exported to {to}"))
    return 0


def export_run(run: Path, to: Path, form: Form = "merged") -> Path:
    """Write a run's final model so that plain transformers and peft load it.

    Args:
        run: the run folder.
        to: folder to write; must not exist, or be empty.
        form: ``merged`` or ``adapter``.

    Returns:
        ``to``.

    Raises:
        RunFolderError: if the run isn't finished, or its job is of an earlier format.
        ModelError: if the run's base model isn't found or isn't the one it trained.
    """
    folder = RunFolder.open(run)
    summary = folder.summary()
    if summary is None:
        raise RunFolderError(
            f"{run} isn't finished; finish it with: fedmodel simulate run={run} resume=true (by "
            f"fedmodel {folder.manifest.fedmodel}, which began it)"
        )
    job = _job(folder)
    # The model libraries are slow to import; a wrong run folder should be told at once.
    from fedmodel import models
    from fedmodel.report.card import model_card
    from fedmodel.training.learner import resident

    learner = resident(job, Performance(device="cpu"))
    learner.load_vector(learner.layout.from_named(folder.model()))
    card = model_card(
        folder.manifest.job,
        summary,
        form=form,
        carries_code=models.carries_code(learner.module),
        carries_base=form == "adapter" and job.model.source == "tiny",
    )
    models.export(learner.module, learner.tokenizer, to, form=form, card=card)
    return to


def _job(folder: RunFolder) -> Job:
    manifest = folder.manifest
    try:
        return Job.read(manifest.job)
    except ConfigError as error:
        raise RunFolderError(
            f"{folder.path}: its job can't be read ({error}); export it with the version that "
            f"trained it, fedmodel {manifest.fedmodel}"
        ) from error
