"""Checkpoints from a hub: pulled once at a known commit, checked, then used offline.

`pull` resolves a branch to its commit, downloads what a family loads and nothing else, compares
sha256 with what the hub states, and writes a record beside the files. `locate` answers from that
record alone, without the network. The files lie in the hub client's own cache layout, so they are
shared with other programs that use the same cache.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from overpaint.checkpoints.component import Components
from overpaint.checkpoints.files.layout import (
    CONFIG,
    INDEX,
    choose_files,
    choose_single,
    pipeline,
    unused_shards,
)
from overpaint.checkpoints.files.pins import Pin
from overpaint.core.errors import LicenceNotAccepted, ModelLoadError, ModelNotFound, OutputError
from overpaint.core.files import atomic_write

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling


@dataclass(frozen=True)
class PulledFile:
    """A file as it was when its hash was last computed."""

    sha256: str
    size: int
    modified: int


@dataclass(frozen=True)
class Pulled:
    """A pulled checkpoint.

    Attributes:
        folder: in diffusers layout.
        repository: `owner/name`.
        commit: 40 hexadecimal digits.
        files: by path inside the folder.
        notes: sentences about changes since the last pull, and about differences from the
            catalogue.
    """

    folder: Path
    repository: str
    commit: str
    files: Mapping[str, PulledFile]
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


WhyNot = Callable[[str, Callable[[str], Mapping[str, Any]]], str | None]
"""Why a checkpoint is none of a family's; see `FamilySpec.refusal`."""

OnProgress = Callable[[str, int, int], None]
"""Called with (file, bytes done, bytes in all) while files arrive; the bytes are of all files."""


def default_cache() -> Path:
    """The hub client's own cache folder."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def pull(
    repository: str,
    revision: str | None = None,
    *,
    pin: Pin | None = None,
    components: Components | None = None,
    refusal: WhyNot | None = None,
    cache: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Pulled:
    """Download a checkpoint, or complete and check one that is there.

    Files that arrived whole are not downloaded again; each is hashed again.

    Args:
        repository: `owner/name`.
        revision: branch, tag or commit; None = the pin's, else the repository's main branch.
        pin: what it is pulled at where no revision is named; `locate` needs none to find it.
        components: what the family loads; None = a single model in transformers layout.
        refusal: says why a checkpoint is none of the family's, from its pipeline class and the
            configurations of its components; None = it is one. Asked before weights are fetched.
        cache: folder to keep it in; None = the hub client's own cache.
        on_progress: called as the bytes arrive.

    Raises:
        ModelNotFound: no such repository or revision.
        LicenceNotAccepted: the repository is gated.
        ModelLoadError: the hub cannot be reached, the download broke off, the repository has no
            safetensors in diffusers or transformers layout, or a file does not match the hub's
            hash or the pin's.
    """
    from huggingface_hub import HfApi

    cache = cache or default_cache()
    pin = pin if revision is None else None
    with _mapped_errors(repository, revision, pin):
        target = revision if pin is None else pin.commit
        info = HfApi().model_info(repository, revision=target, files_metadata=True)
        if info.sha is None:
            raise ModelLoadError(f"{repository}: the hub names no commit; try again later")
        notes = _change_notes(
            repository, info.id, info.sha, pin, _record_file(cache, repository, revision)
        )
        files_by_name = {file.rfilename: file for file in info.siblings or ()}
        fetch = _Fetch(repository, info.sha, cache)
        names = _choose(repository, files_by_name, components, refusal, fetch)
        siblings = [files_by_name[name] for name in names]
        fetch.announce(siblings, on_progress)
        paths = {file.rfilename: fetch(file) for file in siblings}
    hashes = {} if pin is None else pin.sha256
    files = {
        file.rfilename: _checked(
            repository, file, paths[file.rfilename], fetch, hashes.get(file.rfilename)
        )
        for file in siblings
    }
    pulled = Pulled(paths[names[0]].parent, repository, info.sha, files, notes)
    _write_record(pulled, _record_file(cache, repository, revision))
    return pulled


def _choose(
    repository: str,
    files_by_name: Mapping[str, RepoSibling],
    components: Components | None,
    refusal: WhyNot | None,
    fetch: Callable[[Any], Path],
) -> list[str]:
    """The files to download, once the small ones say that the model is the right one.

    Raises:
        ModelLoadError: it is not, or has no files that can be used.
    """
    if components is not None and INDEX in files_by_name:
        index = json.loads(fetch(files_by_name[INDEX]).read_text(encoding="utf-8"))
        _require(repository, refusal, index, fetch, files_by_name)
        paths = choose_files(repository, index, list(files_by_name), components)
        unused = unused_shards(
            paths, components, lambda name: fetch(files_by_name[name]).read_bytes()
        )
        return [name for name in paths if name not in unused]
    if components is None and CONFIG in files_by_name:
        return choose_single(repository, list(files_by_name))
    requirement = f"no {CONFIG}; only single models in transformers layout"
    if components is not None:
        requirement = f"no {INDEX}; only checkpoints in diffusers layout"
    raise ModelLoadError(f"{repository}: holds {requirement} can be used")


def _change_notes(
    repository: str, name: str, commit: str, pin: Pin | None, record: Path
) -> tuple[str, ...]:
    """Sentences on what has changed: the repository's name, its commit, or its main branch."""
    from huggingface_hub import HfApi

    notes = []
    if name != repository:
        notes.append(
            f"{repository} was renamed: the hub answers with {name}; check who owns it now"
        )
    if record.is_file():
        with suppress(ModelLoadError):
            before = _read_record(record, record.parents[1]).commit
            if before != commit:
                notes.append(f"{repository}: commit {commit[:12]} takes the place of {before[:12]}")
    if pin is not None and (head := HfApi().model_info(repository).sha) not in (None, commit):
        notes.append(
            f"{repository}: the pinned commit {commit[:12]} was pulled, but the main branch is now "
            f"at {str(head)[:12]}; --revision main takes that one"
        )
    return tuple(notes)


def _require(
    repository: str,
    refusal: WhyNot | None,
    index: Mapping[str, Any],
    fetch: Callable[[Any], Path],
    files_by_name: Mapping[str, Any],
) -> None:
    """Refuse a repository that holds another model, before its weights are downloaded."""

    def config_of(component: str) -> dict[str, Any]:
        file = files_by_name.get(f"{component}/{CONFIG}")
        return {} if file is None else json.loads(fetch(file).read_text(encoding="utf-8"))

    if refusal is not None and (reason := refusal(pipeline(index), config_of)) is not None:
        raise ModelLoadError(f"{repository}: {reason}")


def locate(
    repository: str, revision: str | None = None, *, cache: Path | None = None
) -> Pulled | None:
    """The checkpoint that was pulled under that revision, or None. Works offline.

    Files that changed since they were hashed are hashed again.

    Raises:
        ModelLoadError: a file is missing or no longer what was pulled.
    """
    cache = cache or default_cache()
    record = _record_file(cache, repository, revision)
    if not record.is_file():
        return None
    pulled = _read_record(record, _repository_folder(cache, repository))
    files = {
        name: _unchanged(pulled.folder / name, expected) for name, expected in pulled.files.items()
    }
    if files != pulled.files:
        pulled = replace(pulled, files=files)
        with suppress(OutputError):  # a read-only cache is hashed again next time
            _write_record(pulled, record)
    return pulled


class _Fetch:
    """Brings single files of one commit into the cache."""

    def __init__(self, repository: str, commit: str, cache: Path) -> None:
        self._repository = repository
        self._commit = commit
        self._cache = cache
        self._on_progress: OnProgress | None = None
        self._total = 0
        self._bytes_done = 0

    def announce(self, files: Sequence[RepoSibling], on_progress: OnProgress | None) -> None:
        """Start to report on these files."""
        self._on_progress = on_progress
        self._total = sum(file.size or 0 for file in files)

    def __call__(self, file: RepoSibling, *, again: bool = False) -> Path:
        from huggingface_hub import hf_hub_download

        options: dict[str, Any] = {}
        if "tqdm_class" in inspect.signature(hf_hub_download).parameters:  # since hub 1
            options["tqdm_class"] = self._reporter(file.rfilename)
        path = hf_hub_download(
            self._repository,
            file.rfilename,
            revision=self._commit,
            cache_dir=self._cache,
            force_download=again,
            **options,
        )
        self._bytes_done += file.size or 0
        self._tell(file.rfilename, 0)
        return Path(path)

    def _tell(self, name: str, part: int) -> None:
        if self._on_progress is not None and self._total:
            self._on_progress(name, min(self._bytes_done + part, self._total), self._total)

    def _reporter(self, name: str) -> type[Any]:
        """A progress bar for the hub client: silent, it only passes bytes on."""
        from huggingface_hub.utils.tqdm import tqdm

        fetch = self

        class Reporter(tqdm):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                self._bytes_arrived = int(kwargs.get("initial") or 0)
                super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

            def update(self, n: float | None = 1) -> None:
                self._bytes_arrived += int(n or 0)
                fetch._tell(name, self._bytes_arrived)

        return Reporter


@contextmanager
def _mapped_errors(repository: str, revision: str | None, pin: Pin | None = None) -> Iterator[None]:
    """The hub client's errors as ours."""
    from huggingface_hub import errors

    # The base classes lead to the HTTP client in use, which differs between the hub's versions.
    bases = cast(tuple[type[Exception], ...], errors.HfHubHTTPError.__bases__)
    failures: tuple[type[Exception], ...] = (*bases, OSError, ValueError)
    try:
        yield
    except errors.GatedRepoError as error:
        raise _gated(repository) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFound(
            f"the hub has no repository '{repository}', or it is private: check the name; for a "
            "private one set HF_TOKEN to a token that may read it",
            field="model",
        ) from error
    except errors.RevisionNotFoundError as error:
        cure = f"no revision '{revision}'; correct it"
        if pin is not None:
            cure = f"no commit {pin.commit} any more; --revision main takes what it has now"
        raise ModelNotFound(f"{repository} has {cure}", field="model") from error
    except errors.HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise _gated(repository) from error
        raise _unreachable(repository, error) from error
    except errors.OfflineModeIsEnabled as error:
        raise ModelLoadError(
            f"{repository} cannot be pulled: HF_HUB_OFFLINE is set; unset it to download"
        ) from error
    except failures as error:
        raise _unreachable(repository, error) from error


def _gated(repository: str) -> LicenceNotAccepted:
    return LicenceNotAccepted(
        f"{repository} is gated: accept its licence on the repository's page, create a token "
        "there that may read it, set HF_TOKEN to the token, and pull again"
    )


def _unreachable(repository: str, error: Exception) -> ModelLoadError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ModelLoadError(
        f"{repository} could not be pulled ({reason}); check the connection and pull again: "
        "files that arrived whole are kept"
    )


def _checked(
    repository: str, file: RepoSibling, path: Path, fetch: _Fetch, pinned: str | None = None
) -> PulledFile:
    """Hash a file and compare that with the hub's hash and the pin's; fetch a damaged one again.

    Raises:
        ModelLoadError: it is damaged, or not the file that the pin is of.
    """
    where = f"{repository}/{file.rfilename}"
    fingerprint = _fingerprint(path)
    if _differs(file, path, fingerprint) is not None:
        with _mapped_errors(repository, None):
            path = fetch(file, again=True)
        fingerprint = _fingerprint(path)
    if (difference := _differs(file, path, fingerprint)) is not None:
        raise ModelLoadError(f"{where}: {difference}; the download is damaged: try again")
    if pinned not in (None, fingerprint.sha256):
        raise ModelLoadError(
            f"{where}: sha256 is {fingerprint.sha256[:16]}…, the catalogue says {pinned[:16]}…; "
            "this is not the file that belongs to this commit: do not use it"
        )
    return fingerprint


def _differs(file: RepoSibling, path: Path, fingerprint: PulledFile) -> str | None:
    """How a file differs from what the hub says of it: a large one's sha256, a small one's git
    hash."""
    if file.lfs is not None:
        if file.lfs.sha256 == fingerprint.sha256:
            return None
        return f"sha256 is {fingerprint.sha256[:16]}…, the hub says {file.lfs.sha256[:16]}…"
    if file.blob_id is None:
        return None
    content = path.read_bytes()
    header = f"blob {len(content)}\0".encode()
    blob = hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
    return None if blob == file.blob_id else f"git hash is {blob}, the hub says {file.blob_id}"


def _fingerprint(path: Path) -> PulledFile:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    status = path.stat()
    return PulledFile(digest, status.st_size, status.st_mtime_ns)


def _unchanged(path: Path, expected: PulledFile) -> PulledFile:
    if not path.is_file():
        raise ModelLoadError(f"{path}: pulled but no longer there; pull the model again")
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) == (expected.size, expected.modified):
        return expected
    fingerprint = _fingerprint(path) if status.st_size == expected.size else None
    if fingerprint is None or fingerprint.sha256 != expected.sha256:
        raise ModelLoadError(f"{path}: was changed since it was pulled; pull the model again")
    return fingerprint


def _repository_folder(cache: Path, repository: str) -> Path:
    return cache / f"models--{repository.replace('/', '--')}"


def _record_file(cache: Path, repository: str, revision: str | None) -> Path:
    """Beside the snapshots, so that deleting the repository deletes its record too."""
    name = quote(revision or "main", safe="")
    return _repository_folder(cache, repository) / "overpaint" / f"{name}.json"


def _write_record(pulled: Pulled, file: Path) -> None:
    record = {
        "repository": pulled.repository,
        "commit": pulled.commit,
        "files": {name: vars(each) for name, each in pulled.files.items()},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, json.dumps(record, indent=2).encode(), field="cache")


def _read_record(file: Path, repository_folder: Path) -> Pulled:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return Pulled(
            folder=repository_folder / "snapshots" / record["commit"],
            repository=record["repository"],
            commit=record["commit"],
            files={name: PulledFile(**each) for name, each in record["files"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{file}: cannot be read; pull the model again") from error
