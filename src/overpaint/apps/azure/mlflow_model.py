"""A checkpoint as an MLflow model with the signature of the text-to-image-inpainting contract.

`save` writes it (`overpaint export mlflow`); MLflow loads it through `_load_pyfunc`, which needs
Overpaint installed where it is served.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from overpaint import __version__
from overpaint.apps import settings as settings_
from overpaint.apps.wiring.models import catalogue, checkpoints, families
from overpaint.core.errors import InvalidRequest, ModelNotFound, OutputError, OverpaintError
from overpaint.core.parts import Kind, Part
from overpaint.jobs import rows
from overpaint.jobs.rows import Row

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

    from overpaint.apps.azure.scoring import Scorer
    from overpaint.apps.settings import Settings
    from overpaint.diffusion.family import FamilySpec

ANSWER = ("prompt", "generated_image", "nsfw_content_detected")

REQUIRED = ("prompt", "image", "mask")
"""Parts that every row of the published contract has, in its order."""

_COLUMNS: dict[Kind, str] = {
    "picture": "binary",
    "mask": "binary",
    "pictures": "string",  # the pictures as base64 with `;` between them, or their JSON
    "text": "string",
    "choice": "string",
    "borders": "string",
    "options": "string",
}
"""MLflow's name of each kind's column."""

_TYPES = {int: "long", float: "double", bool: "boolean", str: "string"}
_LOADER = "overpaint.apps.azure.mlflow_model"

_log = logging.getLogger(__name__)


def save(model: str, out: Path, settings: Settings) -> None:
    """Write a checkpoint as an MLflow model.

    Args:
        model: name, or folder in diffusers layout.
        out: folder to be made; takes a copy of the checkpoint.
        settings: say where models lie.

    Raises:
        ModelNotFound, ModelLoadError: the checkpoint is not there.
        OutputError: the folder is there already, or MLflow is not installed.
    """
    try:
        import mlflow
    except ImportError as error:
        raise OutputError(
            "MLflow is not installed; pip install 'overpaint[mlflow]'", field="output"
        ) from error
    if out.exists():
        raise OutputError(f"{out} is there already; name a new folder", field="output")
    spec = catalogue.find_model(model, settings)
    if spec.source == "none":
        raise ModelNotFound(f"'{spec.name}' has no weights to export", field="model")
    folder = checkpoints.locate(spec, settings)
    family = families.find(spec.family)
    with _new_folder(out) as unfinished, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an example, which could only be large
        mlflow.pyfunc.save_model(
            path=str(unfinished),
            loader_module=_LOADER,
            data_path=str(folder),
            signature=signature(family),
            pip_requirements=[f"overpaint[mlflow]=={__version__}"],
            metadata={"model": spec.name, "family": spec.family, "licence": spec.licence},
        )


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name once everything is in it.

    Raises:
        OutputError: it cannot be written.
    """
    unfinished = out.with_name(f".{out.name}-{secrets.token_hex(4)}.tmp")
    try:
        yield unfinished
        unfinished.rename(out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}", field="output") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def signature(family: FamilySpec) -> ModelSignature:
    """The contract's columns, which every row has, a column for each other part of an edit, and the
    family's options as parameters for all rows.

    Numbers are parameters alone: MLflow knows no column of whole numbers in which one is missing.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    parts = [part for part in rows.ROW_PARTS if part.kind != "number"]
    columns = [
        ColSpec(_COLUMNS[part.kind], rows.columns_of(part)[0], required=part.name in REQUIRED)
        for part in sorted(parts, key=_published_first)
    ]
    answered = [ColSpec("binary", "generated_image"), ColSpec("boolean", "nsfw_content_detected")]
    params = [ParamSpec("seed", "long", None)]
    for name, field in family.options.model_fields.items():
        if (kind := _type(field.annotation)) is not None:
            params.append(ParamSpec(name, kind, field.default))
    return ModelSignature(Schema(columns), Schema(answered), ParamSchema(params))


def _published_first(part: Part) -> int:
    return REQUIRED.index(part.name) if part.name in REQUIRED else len(REQUIRED)


def _type(annotation: Any) -> str | None:
    """MLflow's name of an option's type; None = it has none for it."""
    if get_origin(annotation) is Literal:
        return "string"
    if get_origin(annotation) is types.UnionType:
        of = [each for each in get_args(annotation) if each is not type(None)]
        return _type(of[0]) if len(of) == 1 else None
    return _TYPES.get(annotation)


class Inpainting:
    """The model that MLflow serves.

    Args:
        scorer: rows through an engine.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def predict(
        self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Inpaint rows.

        Args:
            model_input: the contract's columns.
            params: for all rows.

        Returns:
            A data frame with the columns of `ANSWER`.

        Raises:
            MlflowException: what is wrong, with row and column.
        """
        import pandas as pd

        try:
            answers = [
                outcome.answer() for outcome in self._scorer.stream(_rows(model_input, params))
            ]
        except OverpaintError as error:
            raise _as_mlflows(error) from error
        return pd.DataFrame(answers, columns=list(ANSWER), dtype=object)


def _rows(frame: pd.DataFrame, params: Mapping[str, Any] | None) -> Iterator[Row]:
    for number, record in enumerate(frame.to_dict("records")):
        # pandas has NaN where a row has no value.
        values = {str(key): None if value != value else value for key, value in record.items()}
        yield rows.parse(values, number, params)


def _as_mlflows(error: OverpaintError) -> Exception:
    """MLflow's server tells a caller what its own exceptions say, and no more of others."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos import databricks_pb2

    at_fault = isinstance(error, InvalidRequest)
    code = databricks_pb2.BAD_REQUEST if at_fault else databricks_pb2.INTERNAL_ERROR
    if not at_fault:
        _log.error("a request failed: %s", error, exc_info=error)
    exception: Exception = MlflowException(f"{error.code}: {error}", error_code=code)
    return exception


def _load_pyfunc(data_path: str) -> Inpainting:
    """What MLflow calls to load the model."""
    from overpaint.apps.azure.entry_script import model_folder
    from overpaint.apps.azure.scoring import Scorer

    return Inpainting(Scorer(str(model_folder(Path(data_path))), settings_.load()))
