"""Shows use cases that cannot be read, or that a DAG cannot be made of, as one import error, so that the DAGs of the
others stay (Airflow loses every DAG of a file that raises). There is no DAG here."""

import nightshift_factory as factory

from pipeline.errors import BadInput

problems = factory.problems()
if problems:
    first = "1 use case is broken" if len(problems) == 1 else f"{len(problems)} problems with use cases"
    raise BadInput("\n\n".join([first, *problems])) from None
