"""The verb ``export``: a finished run's model as a folder with a model card."""

import functools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fedmodel import config
from fedmodel._escape import escaped
from fedmodel._forms import ExportForm
from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.job import Job, Performance
from fedmodel.report.particulars import Particulars
from fedmodel.report.usage import Exported
from fedmodel.runs import Manifest, RunFolder, run_path
from fedmodel.runs.origin import Origin, write_origin
from fedmodel.update import vector_sha256

__all__ = ["export_run", "exported", "main"]

_MADE_UP = (
    "Clinical notes that fedmodel makes up by itself, in English: of nobody, and no evidence of "
    "anything about real notes."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked.

    Args:
        run: a run's name or folder.
        to: folder to write.
        form: as in :func:`fedmodel.models.export`.
        card: what the model card is to say.
    """

    run: str | None = None
    to: str | None = None
    form: ExportForm = "merged"
    card: Particulars = field(default_factory=Particulars)


def main(mapping: dict[str, Any], given: Sequence[str] = ()) -> int:
    """Export one run.

    Args:
        mapping: the composed configuration: ``run``, ``to``, ``form`` and ``card``.
        given: unused.

    Returns:
        The exit code.

    Raises:
        ConfigError: for a missing or unknown value.
    """
    ask = config.build(Ask, mapping)
    if not ask.run:
        raise ConfigError("export needs run=<the run's name or folder>")
    if not ask.to:
        raise ConfigError("export needs to=<a folder to write>")
    to = export_run(run_path(ask.run), Path(ask.to).expanduser(), ask.form, ask.card)
    print(escaped(f"exported to {to}"))
    return 0


def export_run(
    run: Path,
    to: Path,
    form: ExportForm = "merged",
    particulars: Particulars = Particulars(),  # noqa: B008 - frozen
) -> Path:
    """Write a run's final model so that others load it without fedmodel.

    Args:
        run: the run folder.
        to: folder to write; must not exist, or be empty.
        form: as in :func:`fedmodel.models.export`.
        particulars: what the model card is to say.

    Returns:
        ``to``.

    Raises:
        RunFolderError: if the run isn't finished, or its job is of an earlier format.
        ModelError: if the run's base model isn't found or isn't the one it trained, or the model
            hasn't that form.
        MissingExtraError: for ``onnx``, if what writes it isn't installed.
    """
    folder = RunFolder.open(run)
    summary = folder.summary()
    if summary is None:
        raise RunFolderError(
            f"{run} isn't finished; finish it with: {folder.manifest.goes_on(str(run))} (by "
            f"fedmodel {folder.manifest.fedmodel}, which began it)"
        )
    job = _job(folder)
    # The model libraries are slow to import; a wrong run folder should be told at once.
    from fedmodel import models
    from fedmodel.report.card import model_card
    from fedmodel.training.learner import resident

    if form == "onnx":
        models.onnx.check_installed()
    with _unsaid("fedmodel.models"):  # of the base model's head: what the run trained comes next
        learner = resident(job, Performance(device="cpu"))
    vector = learner.layout.from_named(folder.model())
    learner.load_vector(vector)
    origin = Origin(
        run=folder.manifest.run,
        job_sha256=job.sha256,
        parameters=vector_sha256(vector),
        form=form,
    )
    card = model_card(
        folder.manifest.job,
        summary,
        folder=exported(learner.module, learner.tokenizer, form),
        particulars=_described(folder.manifest, particulars),
        rounds=folder.metrics(),
        year=folder.manifest.created[:4],
    )
    finish = functools.partial(write_origin, origin=origin)
    models.export(learner.module, learner.tokenizer, to, form=form, card=card, finish=finish)
    return to


@contextmanager
def _unsaid(room: str) -> Iterator[None]:
    """Keep warnings of a package's loggers to itself."""
    logger = logging.getLogger(room)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def exported(module: Any, tokenizer: Any, form: ExportForm) -> Exported:
    """Return what a model's folder will hold.

    Args:
        module: as :func:`fedmodel.models.attach` returned it.
        tokenizer: the one it was trained with.
        form: of the folder.
    """
    from fedmodel import models

    return Exported(
        form=form,
        code=form in ("merged", "adapter") and models.carries_code(module),
        base=form != "adapter" or models.carries_base(module),
        blank=bool(tokenizer("")["input_ids"]),
    )


def _described(manifest: Manifest, particulars: Particulars) -> Particulars:
    """Say of made-up rows that they are."""
    data = manifest.config.get("data")
    made_up = isinstance(data, dict) and data.get("kind") == "synthetic"
    known = particulars.data or (_MADE_UP if made_up else None)
    return replace(particulars, data=known)


def _job(folder: RunFolder) -> Job:
    manifest = folder.manifest
    try:
        return Job.read(manifest.job)
    except ConfigError as error:
        raise RunFolderError(
            f"{folder.path}: its job can't be read ({error}); export it with the version that "
            f"trained it, fedmodel {manifest.fedmodel}"
        ) from error
