#!/bin/bash
# Run once, by the Postgres image, on an empty data folder: Airflow's own database, owned by its own login. Nightshift's
# database is made by POSTGRES_DB; its roles and tables come with `nightshift db upgrade`.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --set password="$AIRFLOW_DATABASE_PASSWORD" --username "$POSTGRES_USER" <<'SQL'
create role airflow login nosuperuser nocreatedb nocreaterole password :'password';
create database airflow owner airflow;
revoke all on database airflow from public;
SQL
