"""Checkpoints from the Hugging Face hub: ids such as naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pointmap.errors import InputError, first_line

_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w.-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# For a file of a few hundred bytes; the library itself tries for minutes.
_MOST_SECONDS = 60.0
FILES = ("config.json", "model.safetensors")
"""What a checkpoint consists of, there and in a folder."""


def is_repository(weights: str) -> bool:
    """Tell whether ``weights`` can be an id on the hub: owner/name or owner/name@revision.

    What ends as a file does is none.
    """
    return bool(_ID.fullmatch(weights)) and not weights.endswith((".pth", ".pt", ".safetensors"))


def download(repository: str, *, check: Callable[[Path], None]) -> Path:
    """Return the folder of a repository's config.json and model.safetensors in the usual cache.

    ``repository`` may end in @ and a revision: a branch, a tag or, which nobody can change any
    more, a commit. Both files are of one commit in any case.

    What is missing there is downloaded, with a progress bar, going on where a broken download
    ended. ``check`` is given config.json before the large file is asked for. Raises ``InputError``
    where a file cannot be had.
    """
    config, weights = FILES
    found = _ID.fullmatch(repository)
    assert found is not None
    name, revision = found[1], found[2]
    path = _in_time(lambda: _file(name, config, revision), name)
    check(path)
    commit = path.parent.name
    return _file(name, weights, commit if _COMMIT.fullmatch(commit) else revision).parent


def download_folder(repository: str, patterns: Sequence[str]) -> Path:
    """Return the folder of a repository's files that match ``patterns``, in the usual cache.

    ``repository`` may end in @ and a revision. What is missing is downloaded. Raises
    ``InputError`` where it cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    found = _ID.fullmatch(repository)
    assert found is not None
    name, revision = found[1], found[2]
    fetch = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"{repository} is not in the cache and the Hugging Face hub cannot be reached; "
            f"where there is a network, run: {fetch}"
        ) from error
    except GatedRepoError as error:
        raise InputError(
            f"{repository} asks for your consent first: give it on huggingface.co/{repository}, "
            f"run: hf auth login, then: {fetch}"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{repository}: neither a folder here nor a public repository on the Hugging Face hub"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise InputError(
            f"{repository} could not be downloaded ({first_line(error)}); run: {fetch}, it "
            "goes on where it ended"
        ) from error


def _in_time(ask: Callable[[], Path], repository: str) -> Path:
    """Return what ``ask`` returns; ``InputError`` when a hub accepts and never answers."""
    answers: queue.Queue[Path | InputError] = queue.Queue()

    def answer() -> None:
        try:
            answers.put(ask())
        except InputError as error:
            answers.put(error)

    # A daemon: nobody waits for it at the end of the program.
    threading.Thread(target=answer, daemon=True).start()
    try:
        found = answers.get(timeout=_MOST_SECONDS)
    except queue.Empty:
        raise InputError(
            f"{repository}: the Hugging Face hub does not answer; try again later, or give a "
            "downloaded folder"
        ) from None
    if isinstance(found, InputError):
        raise found
    return found


def _file(repository: str, name: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"{repository}: {name} is not in the cache and the Hugging Face hub cannot be reached; "
            "go online once, or give a downloaded folder"
        ) from error
    except EntryNotFoundError as error:
        raise InputError(
            f"{repository}: no {name} on the Hugging Face hub; give a DUSt3R or MASt3R repository"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{repository}: neither a file here nor a public repository on the Hugging Face hub"
        ) from error
    except Exception as error:  # What else it raises depends on its version.
        raise InputError(
            f"{repository}: {name} could not be downloaded; try again, it goes on where it ended "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
