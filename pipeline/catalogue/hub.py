"""A model from Hugging Face, by the commit that is pinned: downloaded, resumed where it broke off, and checked.

Only what a model needs is fetched: safetensors, configuration and tokenizer. Pickles and code stay where they are.
"""

import errno
import fnmatch
import hashlib
import logging
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput, NightshiftError, NotAvailable, Refused
from pipeline.progress import Progress

log = logging.getLogger(__name__)

_WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model", "*.txt", "LICENSE*")
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_COMMIT = 40  # hexadecimal digits


def require_commit(source: str, revision: str | None) -> str:
    """Returns the revision. Raises BadInput for none, and for a branch or tag, whose content may change any day."""
    if revision is None or len(revision) != _COMMIT or any(sign not in "0123456789abcdef" for sign in revision):
        raise BadInput(
            f"the revision of {source} is not pinned",
            where="--revision",
            found="none" if revision is None else revision,
            allowed="a commit hash, 40 hexadecimal digits",
            next_step="its page shows the history of its files with their commits",
        )
    return revision


def download(source: str, revision: str, folder: Path) -> tuple[dict[str, str], str]:
    """Returns (SHA-256 of each file, licence) of a model at a commit, downloaded into `folder`.

    Files that stand there whole are not fetched again, and one that broke off goes on where it did. Raises NotAvailable
    where there is no network or no such model, Refused where a file is not what the commit says.
    """
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    if huggingface_hub.is_offline_mode():
        raise NotAvailable(
            f"{source} is not on this machine, and downloads are switched off",
            where="HF_HUB_OFFLINE=1",
            next_step=f"HF_HUB_OFFLINE=0 nightshift model pull {source} --revision {revision}",
        )
    try:
        info = huggingface_hub.HfApi().model_info(source, revision=revision, files_metadata=True)
        files = _wanted(source, info)
        progress = Progress(log, f"downloading {source}", sum(file.size or 0 for file in files) >> 20, "MiB")
        for file in files:
            _fetch(source, revision, file, folder)
            progress.advance((file.size or 0) >> 20)
    except RepositoryNotFoundError:
        raise NotAvailable(
            f"there is no model {source} at revision {revision}, or it wants a login",
            where="Hugging Face",
            next_step="check both on its page; for a gated one, accept its terms there and set HF_TOKEN",
        ) from None
    except Exception as error:  # the client lets through what the HTTP library beneath it raises
        if isinstance(error, NightshiftError) or getattr(error, "errno", None) in DISK_FULL:
            raise
        raise NotAvailable(
            f"{source} could not be downloaded",
            where="Hugging Face",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            next_step="the same command goes on where this one broke off",
        ) from None
    return {file.rfilename: _verified(folder / file.rfilename, file) for file in files}, _licence(info)


def _fetch(source: str, revision: str, file: Any, folder: Path) -> None:
    """Downloads one file, from where an earlier attempt left it. `hf_hub_download` (2.4) begins each file anew."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    path, part = folder / file.rfilename, folder / f"{file.rfilename}.part"
    if path.exists() and path.stat().st_size == file.size:
        return
    if part.exists() and part.stat().st_size > file.size:
        part.unlink()  # of another revision's attempt
    with part.open("ab") as stream:
        http_get(
            hf_hub_url(source, file.rfilename, revision=revision),
            stream,
            resume_size=stream.tell(),
            headers=build_hf_headers(),
            expected_size=file.size,
            displayed_filename=file.rfilename,
        )
    part.rename(path)


def _wanted(source: str, info: Any) -> list[Any]:
    """Returns the files to fetch. Raises Refused where the weights are pickles alone."""
    top = [file for file in info.siblings if "/" not in file.rfilename]
    files = [file for file in top if any(fnmatch.fnmatch(file.rfilename, pattern) for pattern in _WANTED)]
    if not any(file.rfilename.endswith(".safetensors") for file in files):
        raise Refused(
            "this model has no safetensors",
            where=source,
            found=", ".join(sorted(file.rfilename for file in top)[:8]),
            allowed="safetensors only: pickles run code when they are opened",
            next_step="look for a revision that has them",
        )
    return files


def _verified(path: Path, file: Any) -> str:
    """Returns a file's SHA-256. Raises Refused where it, or Git's hash of a small file, is not the commit's."""
    sha256 = hashlib.sha256()
    blob = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            sha256.update(block)
            blob.update(block)
    expected, found = (
        (file.lfs.sha256, sha256.hexdigest()) if file.lfs is not None else (file.blob_id, blob.hexdigest())
    )
    if expected != found:
        path.unlink()
        raise Refused(
            "a file is not what the commit says",
            where=file.rfilename,
            found=found,
            allowed=expected,
            next_step="pull again: the file was thrown away",
        )
    return sha256.hexdigest()


def _licence(info: Any) -> str:
    card = info.card_data
    return str(card.license) if card is not None and card.license else "not stated"
