"""Entry script of Azure ML deployments, online and batch; docs/azure.md describes them.

    # score.py
    from overpaint.apps.azure.entry_script import init, run

`init` loads the model of the deployment once. `run` answers a request's body (online), or takes
a mini-batch of CSV files (batch), writes pictures and outcomes as files and returns a line for each
row.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overpaint.apps import process
from overpaint.apps import settings as settings_
from overpaint.apps.azure.schema import error_body
from overpaint.apps.azure.scoring import ScoredRow, Scorer
from overpaint.apps.settings.azureml import MODEL_VARIABLE, OUTPUT_VARIABLE, deployment
from overpaint.apps.wire.errors import status_of
from overpaint.checkpoints.files.layout import INDEX
from overpaint.core.errors import (
    InvalidRequest,
    InvalidSettings,
    ModelNotFound,
    OutputError,
    OverpaintError,
)
from overpaint.core.files import atomic_write
from overpaint.core.imaging import images
from overpaint.jobs import rows, tables
from overpaint.jobs.rows import Row
from overpaint.jobs.units import derive_seed, identify, identity

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "row_number_per_file",
    "image_file_name",
    "nsfw_content_detected",
    "input_csv_name",
)
"""Columns of the lines that `run` returns; the published notebook reads them by their place
alone."""

OUTCOMES = (*COLUMNS, "status", "reason", "seed")
"""Columns of the file of outcomes, which is written beside the pictures of a mini-batch."""

DEEPEST = 6
"""Levels of folders in which a registered model is looked for."""

_log = logging.getLogger(__name__)
_scorer: Scorer | None = None


def init() -> None:
    """Load the model of `AZUREML_MODEL_DIR`, else the settings' default for inpainting.

    Raises:
        OverpaintError: as `build.engine`.
    """
    global _scorer
    process.take()
    # Without this, a batch's summary would get lost where logging is not set up.
    logging.basicConfig()
    logging.getLogger("overpaint").setLevel(logging.INFO)
    settings = settings_.load()
    folder = deployment().model
    model = None if folder is None else str(model_folder(folder))
    _scorer = Scorer(model, settings)
    _log.info("loaded %s", _scorer.model)


def run(data: str | Sequence[str]) -> Any:
    """Answer a request's body, or a mini-batch of files.

    Args:
        data: JSON, in any of the forms of `jobs.tables`; or paths of CSV files.

    Returns:
        The rows' answers; where something is wrong an `AMLResponse` with the status and a message
        that names row and column. For a mini-batch, a data frame with `COLUMNS`.

    Raises:
        InvalidSettings: a mini-batch without a folder to write to.
        OutputError: the disk is full or gone.
    """
    if isinstance(data, str):
        return _answer(data)
    results = list(_results(data))
    if results:
        _write_outcomes(results)
    return _frame(results)


def model_folder(root: Path) -> Path:
    """The checkpoint in a registered model, wherever it lies in there.

    Raises:
        ModelNotFound: there is none.
    """
    level = [root]
    for _ in range(DEEPEST):
        for folder in level:
            if (folder / INDEX).is_file():
                return folder
        level = sorted(below for folder in level for below in folder.glob("*/"))
    raise ModelNotFound(
        f"{root} holds no {INDEX}; register a folder in diffusers layout", field=MODEL_VARIABLE
    )


def _loaded() -> Scorer:
    if _scorer is None:
        init()
    assert _scorer is not None
    return _scorer


def _answer(body: str) -> Any:
    try:
        scorer = _loaded()
        table = rows.parse_table(tables.from_json(body), most=scorer.limits.max_images)
        return [outcome.answer() for outcome in scorer.score(table)]
    except OverpaintError as error:
        return _refusal(error)


def _refusal(error: OverpaintError) -> Any:
    """What Azure ML's server sends instead of a result."""
    from azureml_inference_server_http.api.aml_response import AMLResponse

    status = status_of(error)
    if status >= 500:
        _log.error("a request failed: %s", error, exc_info=error)
    return AMLResponse(error_body(error), status, json_str=True, run_function_failed=status >= 500)


def _results(files: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A result for each row of the files."""
    output = deployment().output
    if output is None:
        raise InvalidSettings("it is not set; batch deployments set it", field=OUTPUT_VARIABLE)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output} cannot be made: {error.strerror}", field="output") from error
    tally: Counter[str] = Counter()
    for file in map(Path, files):
        for number, outcome in enumerate(_loaded().stream(_rows(file))):
            result = _result(file, number, outcome, output)
            tally[result["status"]] += 1
            yield result
    counts = ", ".join(f"{count} {status}" for status, count in sorted(tally.items()))
    _log.info("%d files, %d rows: %s", len(files), tally.total(), counts or "none")


def _rows(file: Path) -> Iterator[Row | InvalidRequest]:
    """Rows of a CSV file; a row that cannot be read fails alone, and the others go on."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for number, record in enumerate(tables.from_csv(lines)):
                yield record if isinstance(record, InvalidRequest) else _row(record, number)
    except InvalidRequest as error:
        yield error
    except OSError as error:
        yield InvalidRequest(f"it cannot be read: {error.strerror}", field=file.name)


def _row(record: tables.Record, number: int) -> Row | InvalidRequest:
    """The row; without a seed it gets one of its own, the same whenever it is tried again."""
    try:
        row = rows.parse(record, number)
    except InvalidRequest as error:
        return error
    if "seed" in row.parts:
        return row
    seed = derive_seed(0, number=number, **identity(row.parts))
    return replace(row, parts={**row.parts, "seed": seed})


def _result(file: Path, number: int, outcome: ScoredRow, output: Path) -> dict[str, Any]:
    name, status = "", "failed"
    if outcome.blocked:
        status = "blocked"
    elif outcome.error is None:
        assert outcome.row is not None
        assert outcome.picture is not None
        # Not of the file's path, which is another one on every machine.
        key = identify(seed=outcome.seed, **identity(outcome.row.parts))
        name, status = f"{file.stem}-{number}-{key[:12]}.png", "done"
        images.save(outcome.picture, output / name)
    values = (
        number,
        name,
        outcome.flagged,
        file.name,
        status,
        "" if outcome.error is None else str(outcome.error),
        outcome.seed,
    )
    return dict(zip(OUTCOMES, values, strict=True))


def _write_outcomes(results: list[dict[str, Any]]) -> None:
    """What became of each row, beside the pictures; the same file when rows are tried again.

    Raises:
        OutputError: it cannot be written.
    """
    output = deployment().output
    assert output is not None, "pictures were written there"
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, OUTCOMES, lineterminator="\n")
    table.writeheader()
    table.writerows(results)
    content = text.getvalue().encode()
    name = f"outcomes-{hashlib.sha256(content).hexdigest()[:12]}.csv"
    atomic_write(output / name, content)


def _frame(results: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(results, columns=list(COLUMNS), dtype=object)
