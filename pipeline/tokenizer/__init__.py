"""A base model's tokenizer and chat template, read without torch: what data is measured with before it is trained on.

transformers decides what a model's tokenizer is (its class may build another than tokenizer.json says), and importing
it takes seconds and torch. Where the files leave nothing to decide they are read as they stand; elsewhere transformers
is asked once, in a process of its own, and its answer is kept under the home folder.
"""

from pipeline.tokenizer.files import TokenizerFiles, locate
from pipeline.tokenizer.reading import Tokenizer
from pipeline.tokenizer.resolving import load

__all__ = ["Tokenizer", "TokenizerFiles", "load", "locate"]
