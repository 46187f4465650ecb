"""Checkpoints from the Hugging Face hub: ids such as naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from pointmap.errors import InputError

_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
FILES = ("config.json", "model.safetensors")
"""What a checkpoint consists of, there and in a folder."""


def is_repository(weights: str) -> bool:
    """Tell whether ``weights`` can be an id on the hub: owner/name, and no file's suffix."""
    return bool(_ID.fullmatch(weights)) and not weights.endswith((".pth", ".pt", ".safetensors"))


def download(repository: str, *, check: Callable[[Path], None]) -> Path:
    """Return the folder of a repository's config.json and model.safetensors in the usual cache.

    What is missing there is downloaded, with a progress bar, going on where a broken download
    ended. ``check`` is given config.json before the large file is asked for. Raises ``InputError``
    where a file cannot be had.
    """
    config, weights = FILES
    path = _file(repository, config)
    check(path)
    return _file(repository, weights).parent


def download_folder(repository: str, patterns: Sequence[str]) -> Path:
    """Return the folder of a repository's files that match ``patterns``, in the usual cache.

    What is missing there is downloaded. Raises ``InputError`` where it cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    wanted = list(patterns)
    fetch = f"hf download {repository}"
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted))
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
        reason = str(error).strip().partition("\n")[0][:200]
        raise InputError(
            f"{repository} could not be downloaded ({reason}); run: {fetch}, it goes on where it "
            "ended"
        ) from error


def _file(repository: str, name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(hf_hub_download(repository, name))
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
        reason = str(error).strip().partition("\n")[0][:200]
        raise InputError(
            f"{repository}: {name} could not be downloaded; try again, it goes on where it ended "
            f"({type(error).__name__}: {reason})"
        ) from error
