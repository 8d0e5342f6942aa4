"""The files of a packet, put together from its evidence, and laid out where people find them."""

import shutil
import uuid
from pathlib import Path
from typing import Any

from pipeline import canonical
from pipeline.artifacts import MANIFEST, ArtifactStore
from pipeline.governance import cards, evidence, files
from pipeline.settings import Settings

FORMAT = 1


def build(
    store: ArtifactStore, records: dict[str, Any], rows: list[dict[str, Any]], *, final: bool
) -> dict[str, bytes]:
    """Returns the files of a packet. Raises NotAvailable where an artifact that should stand in the store does not."""
    copied, artifacts = evidence.copies(store, rows)
    digests = {name: canonical.digest(content) for name, content in records.items()}
    documents, figures = cards.render(records, digests)
    listing = {
        "format": FORMAT,
        "use_case": records["decision"]["use_case"],
        "decision": records["decision"]["decision_id"],
        "final": final,
        "renderer": cards.renderer(),
        "documents": sorted(documents),
        "records": digests,
        "artifacts": artifacts,
        "figures": [figure.as_dict(digests[figure.source]) for figure in figures],
    }
    contents = {evidence.record_path(name): evidence.readable(content) for name, content in records.items()}
    contents |= {name: text.encode() for name, text in documents.items()}
    return contents | copied | {"evidence.json": evidence.readable(listing)}


def export(settings: Settings, use_case: str, decision: int, digest: str, *, final: bool) -> Path:
    """Returns the folder under the home folder where the packet lies, its zip file beside it. Each is there whole."""
    store = ArtifactStore(settings.artifacts)
    target = settings.home / "packets" / use_case / str(decision) / ("final" if final else "evidence")
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    store.fetch("packet", digest, part)
    (part / MANIFEST).write_bytes(canonical.dumps(store.manifest("packet", digest)).encode())
    zipped = part.with_name(f"{part.name}.zip")
    zipped.write_bytes(files.zipped(files.read_folder(part)))
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
    zipped.rename(target.with_name(f"{target.name}.zip"))
    return target
