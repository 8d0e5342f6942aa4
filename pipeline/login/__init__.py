"""Who somebody is on the command line: a login at Airflow or at the database, and the answers given with it."""
