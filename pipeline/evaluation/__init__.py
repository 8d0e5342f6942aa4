"""The evaluation stage: suites of cases, greedy answers with and without retrieval, scores with their error bars."""

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.readiness import problems, require
from pipeline.evaluation.records import Evaluated, SubjectOf
from pipeline.evaluation.regression import regression
from pipeline.evaluation.subjects import champion, subjects

__all__ = ["Evaluated", "SubjectOf", "champion", "evaluate", "problems", "regression", "require", "subjects"]
