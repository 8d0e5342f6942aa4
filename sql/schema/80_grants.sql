-- Grants. What is not here is not allowed. The functions that write lineage run with their owner's rights and check the
-- attempt; the tables behind them are granted to nobody for writing.

grant usage on schema lineage to pipeline, trainer, evaluator, retriever, reader, auditor, approver;
grant usage on schema catalog to pipeline, trainer, evaluator, reader, auditor;
grant usage on schema rag to pipeline, evaluator, retriever, reader, auditor;
grant usage on schema eval to pipeline, evaluator, reader, auditor, approver;
grant usage on schema release to pipeline, evaluator, reader, auditor, approver;
grant usage on schema audit to pipeline, reader, auditor;

-- Lineage: the roles that do work read all of it (it holds ids, digests and counts) and write through functions.
grant select on all tables in schema lineage to pipeline, trainer, evaluator, auditor, approver;
grant execute on function lineage.trains to pipeline, trainer, evaluator, reader, auditor, approver, gatekeeper;
grant execute on function lineage.begin_run, lineage.hold_attempt, lineage.heartbeat, lineage.finish_run, lineage.fail_run
    to pipeline, trainer, evaluator, approver;
grant execute on function lineage.ancestry, lineage.descendants, lineage.what_was_live
    to pipeline, trainer, evaluator, reader, auditor, approver;
grant execute on function lineage.sweep_lost to pipeline;
grant execute on function lineage.record_steps to trainer;
grant execute on function lineage.promote to approver;

-- The data stage.
grant select on all tables in schema catalog to pipeline;
grant delete on catalog.staged_row to pipeline;
grant update (removed_in) on catalog.document_member, catalog.example_member to pipeline;
grant update (body) on catalog.document_version to pipeline;
grant update (source, file) on catalog.document_place to pipeline;
grant update (content, source) on catalog.example, catalog.locked_example to pipeline;
grant execute on function catalog.example_members, catalog.document_members to pipeline, trainer, evaluator, auditor;

-- Erasures. Whoever asks and whoever agrees does so through functions; the rows go through one.
grant execute on function catalog.rows_about, catalog.retained, catalog.request_erasure, catalog.erase, catalog.rewrite_erased,
    lineage.purge_snapshots, lineage.purge_retrained to pipeline;
grant usage on schema catalog to approver, approvers, gatekeeper;
grant execute on function catalog.answer_erasure to approver, approvers;
grant execute on function catalog.erasure_refusal, catalog.erasure_eligible to pipeline, approver, approvers;
grant execute on function catalog.trained_on_erased, catalog.erased_rows_of
    to pipeline, trainer, evaluator, gatekeeper, reader, auditor, approver;
grant select on catalog.erasures, catalog.erasure_answers, catalog.erased_rows, catalog.redacted_versions, lineage.to_retrain
    to pipeline, trainer, evaluator, gatekeeper, reader, auditor, approver, approvers;
grant select on catalog.erased_row to auditor;

-- Signing data, the same way.
grant execute on function catalog.answer_signoff to approver, approvers;
grant execute on function catalog.signoff_refusal, catalog.signoff_eligible to pipeline, approver, approvers;
grant execute on function catalog.to_sign, catalog.signoff_state, catalog.trained_unsigned
    to pipeline, trainer, evaluator, gatekeeper, reader, auditor, approver, approvers;
grant select on catalog.signoffs, catalog.signoff_answers to pipeline, trainer, evaluator, gatekeeper, reader, auditor, approver, approvers;
grant select on catalog.signoff to auditor;
grant select on catalog.version_source to trainer, evaluator, auditor;
grant select on catalog.version_sources, catalog.generated_rows, catalog.reviews, catalog.rows_read to reader, auditor, pipeline;
grant select on catalog.dataset_versions, catalog.reviews to gatekeeper;

-- The trainer reads the rows it trains and selects on, and no other text: neither locked rows nor documents.
grant select on catalog.dataset, catalog.dataset_version, catalog.example, catalog.example_member to trainer;

-- The evaluator reads what it scores on.
grant select on catalog.dataset, catalog.dataset_version, catalog.example, catalog.example_member to evaluator;
grant execute on function catalog.announce_locked_reading, catalog.read_locked to evaluator;
grant select on catalog.locked_readings to reader, auditor, pipeline;
grant select on all tables in schema eval to evaluator;
grant select on release.policy to evaluator;

-- The index builder (pipeline) and its functions; chunks themselves are granted to nobody.
grant select on rag.generation, rag.acl_set, rag.embedding_cache, rag.principal, rag.withdrawal to pipeline;
grant execute on function rag.create_version, rag.seal_version, rag.attach, rag.adopt, rag.standing, rag.contents,
    rag.text_digests, rag.withdraw, rag.erase, rag.replay, rag.swap, rag.sync_principals, rag.drop_version, rag.prune_cache, rag.prune_sessions,
    rag.acl_ids, rag.open_session, rag.open_session_as, rag.search, rag.search_generation, rag.read_hits,
    rag.revoke, rag.lock_work, rag.try_lock_work, rag.unlock_work, rag.end_idle to pipeline;
-- A policy is evaluated with the rights of whoever reads: anyone may ask what his own token shows.
grant execute on function rag.token_tenant, rag.token_acl_ids to public;
grant execute on function rag.open_session, rag.search, rag.search_generation, rag.read_hits to evaluator;
grant select on rag.generation to evaluator;
grant execute on function rag.search, rag.read_hits to retriever;

grant select on all tables in schema eval to pipeline;
grant select on all tables in schema release to pipeline, auditor, approver;
grant execute on function release.seal_policy to pipeline;
grant execute on function release.answer to approver, approvers;

-- Persons. Their own logins answer for a release and read what they answer for; nobody but the superuser says who is who.
grant usage on schema release to approvers;
grant select on release.waiting, release.decision, release.approval to approvers;
grant execute on function release.person_of, release.impersonal, release.eligible, release.whoami
    to pipeline, evaluator, approver, reader, auditor, approvers;
grant select on release.person, release.person_alias to reader;

-- What is inserted without a function is inserted without the columns that the database fills in by itself: nobody chooses
-- the time of his own row, or under whose login it was written.
do $$
declare
    v_grant record;
begin
    for v_grant in
        select w.login, c.table_schema, c.table_name, string_agg(quote_ident(c.column_name), ', ' order by c.ordinal_position) as columns
        from (values ('pipeline', 'catalog', null), ('pipeline', 'rag', 'acl_set'),
                     ('pipeline', 'rag', 'embedding_cache'), ('evaluator', 'eval', null),
                     ('approver', 'release', 'waiver'), ('gatekeeper', 'eval', 'comparison')) w (login, table_schema, table_name)
        join information_schema.columns c on c.table_schema = w.table_schema and c.table_name = coalesce(w.table_name, c.table_name)
        join information_schema.tables t on t.table_schema = c.table_schema and t.table_name = c.table_name and t.table_type = 'BASE TABLE'
        where c.table_name not in ('erasure', 'erasure_answer', 'erased_row', 'signoff', 'locked_reading') and c.is_identity = 'NO' and coalesce(c.column_default, '') !~* 'clock_timestamp|session_user|now\(\)'
        group by w.login, c.table_schema, c.table_name
    loop
        execute format('grant insert (%s) on %I.%I to %I', v_grant.columns, v_grant.table_schema, v_grant.table_name, v_grant.login);
    end loop;
end
$$;

-- The gate: it reads what it rests on, and writes what it found. The approver rolls back.
grant usage on schema lineage, eval, release, rag to gatekeeper;
grant usage on schema rag to approver;
grant select on rag.generation to approver, gatekeeper;
grant execute on function rag.replay to approver;
grant select on all tables in schema lineage to gatekeeper;
grant select on all tables in schema release to gatekeeper;
grant select on eval.suite, eval.evaluation, eval.comparison to gatekeeper;
grant execute on function lineage.begin_run, lineage.hold_attempt, lineage.heartbeat, lineage.finish_run, lineage.fail_run to gatekeeper;
grant execute on function release.trained_at, release.in_force to pipeline, gatekeeper, approver;
grant execute on function release.rollback_asks to approver;
grant execute on function rag.record_gates to evaluator;
grant execute on function lineage.what_was_live, lineage.ancestry, lineage.descendants to gatekeeper;

-- The auditor reads every record and no text.
grant select on all tables in schema audit to auditor;
grant execute on function audit.seal, audit.verify, audit.verify_rows to auditor, pipeline;
grant select on catalog.dataset, catalog.dataset_version, catalog.document_member, catalog.example_member, catalog.document,
    catalog.split_assignment, catalog.finding, catalog.steward_decision, catalog.tombstone to auditor;
grant select on rag.generation, rag.acl_set, rag.retrieval_audit, rag.withdrawal, rag.principal to auditor;
grant select on eval.suite, eval.evaluation, eval.comparison to auditor, approver;

-- The reader sees every view.
grant select on lineage.live, lineage.deployments, lineage.production_lineage, lineage.production_documents,
    lineage.nightly_results, lineage.run_history, lineage.artifacts, lineage.edges, lineage.outputs, lineage.attempts,
    lineage.run_keys, lineage.broken, lineage.nights, lineage.training_curve to reader;
grant select on catalog.worklist, catalog.waivers to reader, auditor, pipeline;
grant select on catalog.dataset_versions, catalog.findings, catalog.document_uses, catalog.dataset_changes to reader, auditor;
grant select on eval.evaluations to reader;
grant select on rag.retrievals, rag.generations, rag.served_documents, rag.access, rag.document_retrievals to reader, auditor;
-- A view's functions run with the rights of whoever reads it.
grant execute on function rag.rank to reader, auditor;
grant select on release.policy, release.decision, release.approval, release.waiver, release.waiting to reader;
grant select on audit.events, audit.chain to reader, pipeline;

reset role;

-- An advisory lock is anybody's to take, and ours keep withdrawals and swaps in order: only the owner's functions take
-- them. A limit that a login can undo is no wall, but it ends what was left open by mistake.
do $$
declare
    f regprocedure;
    name text;
begin
    for f in select p.oid from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ '^pg_(try_)?advisory' loop
        execute format('revoke execute on function %s from public', f);
        execute format('grant execute on function %s to nightshift_owner', f);
    end loop;
    foreach name in array array['pipeline', 'trainer', 'evaluator', 'retriever', 'reader', 'auditor', 'approver', 'gatekeeper'] loop
        execute format('alter role %I in database %I set lock_timeout = ''5min''', name, current_database());
        execute format('alter role %I in database %I set statement_timeout = ''2h''', name, current_database());
        execute format('alter role %I in database %I set idle_in_transaction_session_timeout = ''30min''', name, current_database());
    end loop;
    -- What a failed statement was about (its row, its key) is text that an erasure would not reach in the server's log.
    execute format('alter database %I set log_error_verbosity = ''terse''', current_database());
    grant pg_signal_backend, pg_read_all_stats to nightshift_owner;
    grant pg_checkpoint to pipeline with inherit true, set false; -- the files of a table that was written anew go with the next checkpoint
end
$$;
