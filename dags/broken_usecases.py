"""Shows use cases that cannot be read as one import error, so that the DAGs of the others stay (Airflow loses every
DAG of a file that raises). There is no DAG here."""

import nightshift_factory as factory

from pipeline.errors import BadInput

_, broken = factory.read_usecases()
if len(broken) == 1:
    raise broken[0].with_traceback(None)
if broken:
    raise BadInput("\n\n".join([f"{len(broken)} use cases cannot be read", *map(str, broken)]))
