"""The embedder: what is told without a model, and the vectors that the model gives."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import BadInput, NotAvailable
from pipeline.search import embedder as module
from pipeline.search.embedder import DIMENSIONS, MAX_TOKENS, Embedder
from pipeline.search.encoder import Bert

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    """An embedder whose model is loaded once."""
    return Embedder("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the model's folder, its weights cut short: identity does not care."""
    source = module.model_folder()
    for name in ("config.json", "tokenizer.json", "1_Pooling/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(source / name, tmp_path / name)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_identity_counting_and_a_question_need_no_torch() -> None:
    code = (
        "import sys; from pipeline.search.embedder import Embedder; e = Embedder();"
        "assert len(e.digest) == 64; assert e.count(['Leave is granted.']) == [4];"
        "assert e.encode(['Who grants leave?', '']).shape == (2, 384);"
        "assert 'torch' not in sys.modules; assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "1_Pooling/config.json"])
def test_each_file_counts(folder: Path, name: str) -> None:
    before = module.identity(folder)
    assert module.identity(folder) == before
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert module.identity(folder) != before


def test_the_settings_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = module.identity(folder)
    module._identity.cache_clear()
    monkeypatch.setitem(module._SETTINGS, "pooling", "cls")
    assert module.identity(folder) != before
    module._identity.cache_clear()


def test_the_files_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = module.identity(folder)

    def refuse(*_: object) -> bytes:
        raise AssertionError("the files were read again")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert module.identity(folder) == before


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKAGE", "no_such_package")
    with pytest.raises(NotAvailable, match="make install"):
        Embedder()


def test_vectors_have_length_one(embedder: Embedder) -> None:
    vectors = embedder.encode(["Leave is granted on request.", "x", "", "word " * 1000])
    assert vectors.shape == (4, DIMENSIONS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_vectors_are_those_of_sentence_transformers(embedder: Embedder) -> None:
    """Values given by SentenceTransformer(model_folder()).encode, sentence-transformers 6.2.0."""
    (vector,) = embedder.encode(["The press has a guard."])
    reference = [-0.0704688, 0.0679918, -0.0185439, 0.0270596, 0.0055807, 0.0700679]
    np.testing.assert_allclose(vector[:6], reference, atol=1e-5)


def test_a_vector_does_not_depend_on_its_batch(embedder: Embedder) -> None:
    texts = ["Leave is granted on request.", "The press has a guard. " * 20, "No."]
    together = embedder.encode(texts)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(embedder.encode([text])[0], vector, atol=1e-5)


def test_like_is_near(embedder: Embedder) -> None:
    question, near, far = embedder.encode(
        ["How do I ask for time off?", "Leave is granted on request.", "The press has a guard."]
    )
    assert question @ near > question @ far


def test_text_after_the_last_token_is_not_read(embedder: Embedder) -> None:
    words = "word " * (MAX_TOKENS - 2)
    cut, longer = embedder.encode([words, words + "and much more of it"])
    np.testing.assert_allclose(cut, longer, atol=1e-5)


TEXTS = ["Who owns the handbook?", "", "x", "word " * 1000, "Größe: 10\u202f000 € – 東京 🙂", "a\nb\tc", "\u0301" * 40]


def test_vectors_without_torch_are_the_same(embedder: Embedder) -> None:
    """A question is embedded by numpy, the index by transformers; one search compares the two."""
    code = (
        "import sys, json; from pipeline.search.embedder import Embedder; e = Embedder('cpu');"
        f"vectors = [e.encode([text])[0].tolist() for text in {TEXTS!r}];"
        "assert 'torch' not in sys.modules; print(json.dumps(vectors))"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    np.testing.assert_allclose(np.array(json.loads(printed)), embedder.encode(TEXTS), atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # its own import warns, and nobody can act on that here
def test_all_vectors_are_those_of_sentence_transformers(embedder: Embedder) -> None:
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(embedder.folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(embedder.encode(TEXTS), peer, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"), [("model_type", "roberta"), ("hidden_act", "relu"), ("position_embedding_type", "relative_key")]
)
def test_another_architecture_is_refused(folder: Path, key: str, value: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(BadInput, match=key):
        Bert(folder)


def test_nothing_is_no_vector(embedder: Embedder) -> None:
    assert embedder.encode([]).shape == (0, DIMENSIONS)
