-- in_production --
-- What is in production: model and index of every use case, since when, by whom and why.
select use_case, deployment_id, model_digest, index_digest, decision_id, promoted_by, why, valid_from
from lineage.live
where alias = 'live'
order by use_case;

-- produced_by --
-- What exactly produced it: every artifact behind a use case's live model and index, with the run and login that made it.
select kind, name, version_id, digest, private, purged_at, run_id, job, requested_by, login, started_at, ended_at
from lineage.production_lineage
where use_case = :'use_case' and alias = 'live'
order by version_id;

-- let_through_by --
-- Who let it through, on what evidence: the decision behind what is live, its checks in short (gate_checks has all of them), its evidence and the answers to it.
select l.use_case, l.deployment_id, d.decision_id, d.kind, d.outcome, d.requested_by, d.decided_at,
       p.digest as policy_digest, p.sealed_by, p.sealed_at,
       array(
           select concat(c ->> 'name', ': ', c ->> 'verdict',
                         ', ' || round((c ->> 'value')::numeric, 3) || ' [' || round((c ->> 'low')::numeric, 3) || ', '
                         || round((c ->> 'high')::numeric, 3) || ']',
                         ', wanted ' || (c ->> 'wanted'), ', ' || (c ->> 'n') || ' cases', '; ' || (c ->> 'reason'))
           from jsonb_array_elements(d.checks) with ordinality as e (c, place) order by place
       ) as checks,
       d.evidence,
       (
           select jsonb_agg(jsonb_build_object('answer', a.answer, 'person', a.person, 'reason', a.reason, 'answered_at', a.answered_at)
                            order by a.approval_id)
           from release.approval a where a.decision_id = d.decision_id
       ) as answers,
       l.promoted_by, l.valid_from
from lineage.live l
join release.decision d on d.decision_id = l.decision_id
left join release.policy p on p.policy_id = d.policy_id
where l.use_case = :'use_case' and l.alias = 'live';

-- readable_by_principal --
-- Who could read what: the documents that a named principal can be answered from, out of the live index.
select document_key, document_version_id, classification, groups, chunks, tenant, generation_id
from rag.access
where use_case = :'use_case' and principal = :'principal'
order by document_key;

-- readable_by_groups --
-- Who could read what: the documents that any caller of this tenant, these groups (comma-separated) and this clearance can read.
select document_key, document_version_id, classification, groups, chunks, generation_id
from rag.served_documents
where use_case = :'use_case' and tenant = :'tenant'
  and array_position(array['public', 'internal', 'confidential', 'restricted'], classification)
      <= array_position(array['public', 'internal', 'confidential', 'restricted'], :'clearance')
  and (classification = 'public' or groups && string_to_array(:'groups', ','))
order by document_key;

-- readers_of_document --
-- Who could read what: the principals that can be answered from a document.
select principal, tenant, principal_groups, clearance, classification, groups, chunks
from rag.access
where use_case = :'use_case' and document_key = :'document'
order by principal;

-- document_impact --
-- What must go when a document is withdrawn: everything made from a dataset version that holds it, and the private
-- artifacts which that version was made from; live says whether it is in production now.
with uses as (
    select kind, version, artifact_version_id from catalog.document_uses
    where use_case = :'use_case' and document_key = :'document'
), reached as (
    select d.version_id, bool_or(u.kind = 'documents') as holds_text, true as made_from_it
    from uses u cross join lateral lineage.descendants(u.artifact_version_id) d
    group by d.version_id
    union all
    select x.version_id, true, false
    from uses u cross join lateral lineage.ancestry(u.artifact_version_id) x
    join lineage.artifacts v on v.version_id = x.version_id and v.private
    where x.version_id <> u.artifact_version_id
    group by x.version_id
)
select a.kind, a.name, a.version_id, a.digest, a.private, a.purged_at, bool_or(r.holds_text) as through_corpus,
       bool_or(r.made_from_it) as made_from_it, bool_or(l.deployment_id is not null) as live
from reached r
join lineage.artifacts a using (version_id)
left join lineage.live l on a.version_id in (l.model_version_id, l.index_version_id)
group by a.kind, a.name, a.version_id, a.digest, a.private, a.purged_at
order by a.version_id;

-- document_versions --
-- The versions of the documents and of the examples that hold or speak of a document.
select kind, version, digest, members
from catalog.document_uses
where use_case = :'use_case' and document_key = :'document'
order by kind, version;

-- what_was_live --
-- What was live at a moment, in every use case.
select use_case, alias, deployment_id, model_digest, index_digest, decision_id, promoted_by, why, valid_from, valid_to
from lineage.what_was_live(:'at'::timestamptz)
order by use_case, alias;

-- nightly_results --
-- The nights of a use case, newest first: what the gate said, who answered, whether the candidate went live.
select night, decision_id, decided_at, outcome, needs_person, answer, person, reason, candidate_digest, deployment_id, live_from, live_to
from lineage.nightly_results
where use_case = :'use_case'
order by decision_id desc;

-- nights --
-- Every night of a use case, also unchanged, failed and running ones: how many runs, and how many of them were reused.
select night, state, started_at, ended_at, runs, reused, failed, decision_id, outcome
from lineage.nights
where use_case = :'use_case'
order by started_at desc;

-- gate_checks --
-- Every check behind a decision, one row each, as the gate wrote it down.
select d.decision_id, d.outcome, c.place, c.check_result
from release.decision d
cross join lateral jsonb_array_elements(d.checks) with ordinality as c (check_result, place)
where d.decision_id = :'decision'::bigint
order by c.place;

-- sealed_before_training --
-- Whether the thresholds were sealed before the model was trained: one row per decision about a model.
select d.decision_id, d.use_case, p.digest as policy_digest, p.sealed_at, t.trained_at, p.sealed_at < t.trained_at as sealed_first
from release.decision d
join release.policy p on p.policy_id = d.policy_id
left join lateral (
    select min(h.started_at) as trained_at
    from lineage.ancestry(d.model_version_id) x
    join lineage.edges e on e.target = x.version_id
    join lineage.run_history h on h.run_id = e.run_id and h.job like 'training.%' and h.state = 'succeeded'
    join lineage.artifacts a on a.version_id = x.version_id and a.kind = 'adapter'
) t on true
where d.kind = 'model'
order by d.decision_id;

-- pending_approvals --
-- Which decisions wait for a person, and since when.
select use_case, decision_id, kind, outcome, candidate_digest, requested_by, decided_at, refused_answers
from release.waiting
order by decided_at;

-- refused_approvals --
-- Answers that the rules did not accept, such as approving one's own run.
select d.use_case, a.decision_id, a.person, a.reason, a.login, a.answered_at
from release.approval a join release.decision d using (decision_id)
where a.answer = 'refused'
order by a.approval_id;

-- evaluations_of_model --
-- How a model did, by suite, with and without retrieval; the digest may be its beginning.
select evaluation_id, use_case, suite, subject, retrieval, model_digest, metrics, run_id, evaluated_at
from eval.evaluations
where model_digest like :'digest' || '%'
order by evaluation_id;

-- rejected_by_rule --
-- How many rows each rule rejected or warned of, by run of the checks, newest first.
select h.started_at, f.run_id, f.rule, f.severity, count(*) as findings, count(distinct f.file) as files
from catalog.findings f join lineage.run_history h on h.run_id = f.run_id
where f.use_case = :'use_case'
group by h.started_at, f.run_id, f.rule, f.severity
order by h.started_at desc, findings desc, f.rule;

-- open_findings --
-- The steward's work list: rows that the newest check and commit left out and nobody has decided. Place and rule, no text.
select finding_id, run_id, file, line, rule, severity, detail
from catalog.worklist
where use_case = :'use_case'
order by finding_id;

-- waivers --
-- Rows that a rule leaves out and a person has accepted: who, why, until when, and whether it counts today.
select rule, file, line, digest, person, reason, decided_at, until, in_force
from catalog.waivers
where use_case = :'use_case'
order by decided_at desc;

-- signoffs --
-- Who signed what was new in each dataset version, what still waits, and whether the version may be trained on.
select version, digest, role, answer, open_items, person, reason, answered_at, state
from catalog.signoffs
where use_case = :'use_case' and answer <> 'not asked'
order by version desc, role;

-- sources_of_models --
-- The sources that each model was trained on, as its use case described them then: what they may be used for, licence, owner.
select distinct a.digest as model, v.version as dataset_version, o.source, o.uses, o.description ->> 'licence' as licence,
       o.description ->> 'owner' as owner, o.description ->> 'rights' as rights, o.rows
from lineage.artifacts a
cross join lateral lineage.ancestry(a.version_id) u
join catalog.dataset_versions v on v.artifact_version_id = u.version_id and v.kind = 'examples' and v.use_case = a.use_case
join catalog.version_sources o on o.use_case = v.use_case and o.kind = v.kind and o.version = v.version
where a.use_case = :'use_case' and a.kind = 'adapter'
order by 1, 2, 3;

-- generated_share --
-- How much of a use case's training data a model or a program wrote, by what, and how much of it a person read.
select g.made_by, g.split, count(*) as rows, count(g.checked_by) as checked, min(g.made_on) as first_day, max(g.made_on) as last_day
from catalog.generated_rows g
where g.use_case = :'use_case'
group by g.made_by, g.split
order by g.made_by, g.split;

-- locked_readings --
-- Who read the locked test split of a use case, and when.
select version, login, announced_at, read_at, rows
from catalog.locked_readings
where use_case = :'use_case'
order by locked_reading_id desc;

-- rows_read --
-- Which training rows persons read, who they were, and whether as part of a sample.
select digest, reader, how, read_at
from catalog.rows_read
where use_case = :'use_case'
order by read_at desc, digest;

-- dataset_growth --
-- How a use case's examples and documents grew: what each version added, removed and holds.
select kind, version, digest, added, removed, members, committed_at
from catalog.dataset_changes
where use_case = :'use_case'
order by kind, version;

-- reused_runs --
-- Which runs were answered by an earlier one, and by which.
select h.run_id, h.job, h.dag_run_id, h.reused_from, h.requested_by, h.started_at
from lineage.run_history h
where h.use_case = :'use_case' and h.state = 'reused'
order by h.started_at desc;

-- broken_jobs --
-- Jobs whose latest run failed or was lost.
select use_case, job, dag_id, dag_run_id, task_id, run_id, state, error_class, ended_at
from lineage.broken
order by use_case, job;

-- attempts_by_login --
-- Who did the work, as which login; superuser and owner must be nowhere true.
select login, superuser, owner, job, count(*) as attempts, min(started_at) as first, max(started_at) as last
from lineage.attempts
group by login, superuser, owner, job
order by login, job;

-- retrievals_of_document --
-- Which callers were answered from a document, when, and out of which index.
select audit_id, at, principal, tenant, deployment_id, generation_id, document_version_id, chunks
from rag.document_retrievals
where use_case = :'use_case' and document_key = :'document'
order by audit_id;

-- refused_retrievals --
-- Searches that were answered with nothing because of the caller's token.
select audit_id, at, use_case, principal, reason
from rag.retrievals
where route = 'refused'
order by audit_id;

-- stale_documents --
-- Documents in the live index that are past their freshness or retention date on a day.
select document_key, document_version_id, owner, fresh_until, retain_until, served
from lineage.production_documents
where use_case = :'use_case' and (fresh_until < :'day'::date or retain_until < :'day'::date)
order by document_key;

-- audit_of_deployment --
-- The audit events about a deployment and the decision that let it through, with the sealed block each stands in.
select e.event_id, e.at, e.login, e.object, e.operation, e.key, e.block_no
from audit.events e
where (e.object = 'lineage.deployment' and (e.key ->> 'deployment_id')::bigint = :'deployment'::bigint)
   or (e.object in ('release.decision', 'release.approval', 'release.waiver')
       and e.key ->> 'decision_id' = (select d.decision_id::text from lineage.deployments d
                                      where d.deployment_id = :'deployment'::bigint))
order by e.event_id;

-- audit_chain --
-- The sealed blocks of the audit, newest first, to hold beside the anchored heads.
select block_no, previous_hash, hash, events, sealed_at
from audit.chain
order by block_no desc;

-- erasures --
-- What was asked to be forgotten in a use case, newest first: by whom, who agreed, where it stands and what went. Whom it was about is not shown.
select erasure_id, kind, basis, state, reason, requested_by, requested_at, person, answer_reason, answered_at, erased_at, counts
from catalog.erasures
where use_case = :'use_case'
order by erasure_id desc;

-- erasure_story --
-- What came of an erasure: the rows that went, the dataset versions that are redacted, the models that were trained on them and whether one is live, and the newest model, with how many erased rows it was trained on.
with e as (select * from catalog.erasures where erasure_id = :'erasure'::bigint)
select 1 as step, 'asked for' as what, e.kind as name, e.requested_by as who, null as digest, null::bigint as erased_rows, false as live, e.requested_at as at from e
union all
select 2, 'agreed to', e.answer_reason, e.person, null, null, false, e.answered_at from e where e.answered_at is not null
union all
select 3, 'row erased', concat_ws(' ', r.split, r.kind), null, r.digest, 1, false, r.erased_at from e join catalog.erased_rows r using (erasure_id)
union all
select 4, 'version redacted', v.kind || ' ' || v.version, null, v.digest, v.erased, false, null from e join catalog.redacted_versions v using (use_case)
union all
select 5, case when m.live then 'live, to be trained again' when m.purged_at is not null then 'model purged' else 'nobody goes back to it' end,
       m.name, null, m.digest, m.erased_rows, m.live, m.created_at
from e join lineage.to_retrain m using (use_case)
union all
select 6, 'newest model', a.name, null, a.digest, catalog.trained_on_erased(a.version_id), l.deployment_id is not null, a.created_at
from e
cross join lateral (select * from lineage.artifacts a where a.use_case = e.use_case and a.kind = 'adapter' order by a.version_id desc limit 1) a
left join lineage.live l on l.model_version_id = a.version_id
order by step, at, name, digest;

-- redacted_versions --
-- The dataset versions that hold rows which were erased since: their digests verify still, and nothing is trained on them.
select kind, version, digest, erased from catalog.redacted_versions where use_case = :'use_case' order by kind, version;

-- to_retrain --
-- The models that were trained on rows which were erased since, and which of them is live.
select kind, name, digest, erased_rows, live, created_at, purged_at from lineage.to_retrain where use_case = :'use_case' order by version_id;

-- training_curve --
-- What the newest training of each kind measured at each step, also while it runs: losses, learning rate, gradient, tokens a second, memory.
select t.job, t.state, t.step, t.epoch, t.loss, t.eval_loss, t.learning_rate, t.gradient_norm, t.margin, t.accuracy,
       t.tokens_per_second, t.supervised_per_second, t.memory_mib, t.at
from lineage.training_curve t
where t.use_case = :'use_case'
  and t.run_id in (select distinct on (c.job) c.run_id from lineage.training_curve c where c.use_case = :'use_case' order by c.job, c.started_at desc)
order by t.job desc, t.step;

-- trainings --
-- How each training went, newest first: steps, losses before and after, whether it overfitted, what it took, and whether it went on from where an earlier try was killed.
select h.job, h.run_id, h.state, h.started_at, f.*
from lineage.run_history h
cross join lateral (
    select (t ->> 'steps')::int as steps, (t ->> 'steps_planned')::int as planned, (t ->> 'best_step')::int as best_step,
           (t ->> 'eval_loss_before')::float8 as eval_loss_before, (t ->> 'eval_loss')::float8 as eval_loss,
           (t ->> 'train_loss')::float8 as train_loss, (t ->> 'overfitted')::boolean as overfitted,
           (t ->> 'seconds')::float8 + coalesce((t ->> 'seconds_before')::float8, 0) as seconds,
           (t ->> 'resumed_from')::int as resumed_from, (t ->> 'peak_memory_mib')::int as peak_memory_mib
    from (select h.facts -> 'training' as t) x) f
where h.use_case = :'use_case' and lineage.trains(h.job)
order by h.started_at desc;
