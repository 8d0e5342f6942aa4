#!/bin/bash
# Run once before the other services: schema, logins, Airflow's tables, the pool of the training tasks. Safe to run again.
set -euo pipefail
nightshift db upgrade
# Each worker sees the logins of its own work alone: the GPU worker can train, and can neither read a locked test row nor
# approve a release.
install --directory --mode 0700 /logins/cpu /logins/gpu /logins/release
for role in pipeline evaluator retriever reader auditor; do
    install --mode 0600 "/logins/all/$role" /logins/cpu/
done
install --mode 0600 /logins/all/trainer /logins/gpu/
for role in gatekeeper approver reader; do
    install --mode 0600 "/logins/all/$role" /logins/release/
done
airflow db migrate
airflow pools set gpu 1 "one training at a time"
# Airflow's users as persons, who may answer for a release; who is known already stays as he is.
known=$(nightshift person list --json)
for user in engineer reviewer auditor; do
    if ! grep --quiet "\"name\": \"$user\"" <<<"$known"; then
        approver=--approver
        if [ "$user" = auditor ]; then approver=--no-approver; fi
        nightshift person add "$user" --airflow "$user" "$approver"
    fi
done
