-- Views: what people ask, without text of documents, examples, prompts or answers. They run with their owner's rights;
-- the reader role sees them and no table.

create view lineage.live as
select d.deployment_id, d.use_case, d.alias, d.model_version_id, m.digest as model_digest, d.index_version_id,
       i.digest as index_digest, d.decision_id, d.promoted_by, d.why, d.valid_from
from lineage.deployment d
left join lineage.artifact_version m on m.version_id = d.model_version_id
left join lineage.artifact_version i on i.version_id = d.index_version_id
where d.valid_to is null;

create function lineage.what_was_live(p_at timestamptz)
returns table (use_case text, alias text, deployment_id bigint, model_digest text, index_digest text, decision_id bigint,
               promoted_by text, why text, valid_from timestamptz, valid_to timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select d.use_case, d.alias, d.deployment_id, m.digest, i.digest, d.decision_id, d.promoted_by, d.why, d.valid_from, d.valid_to
    from lineage.deployment d
    left join lineage.artifact_version m on m.version_id = d.model_version_id
    left join lineage.artifact_version i on i.version_id = d.index_version_id
    where d.valid_from <= p_at and (d.valid_to is null or d.valid_to > p_at)
$$;

-- production_lineage: everything that what is live was made from, with the run and the login that made it.
create view lineage.production_lineage as
select l.use_case, l.alias, l.deployment_id, a.kind, a.name, v.version_id, v.digest, v.private, v.purged_at,
       r.run_id, j.name as job, r.state as run_state, r.requested_by, t.login, r.started_at, r.ended_at
from lineage.live l
cross join lateral (
    select x.version_id from lineage.ancestry(l.model_version_id) x where l.model_version_id is not null
    union
    select x.version_id from lineage.ancestry(l.index_version_id) x where l.index_version_id is not null
) u
join lineage.artifact_version v on v.version_id = u.version_id
join lineage.artifact a on a.artifact_id = v.artifact_id
left join lateral (
    select r.* from lineage.run_output o join lineage.run r on r.run_id = o.run_id
    where o.version_id = v.version_id and r.state = 'succeeded' order by r.started_at limit 1
) r on true
left join lineage.job j on j.job_id = r.job_id
left join lineage.attempt t on t.run_id = r.run_id and t.state = 'succeeded';

-- production_documents: the documents that the live index can quote, and by whom they may be read.
create view lineage.production_documents as
select l.use_case, l.deployment_id, g.generation_id, d.document_key, v.document_version_id, v.digest, v.title, v.tenant,
       v.classification, v.groups, v.owner, v.source, v.status, v.fresh_until, v.retain_until, c.chunks, c.served
from lineage.live l
join rag.generation g on g.artifact_version_id = l.index_version_id and g.use_case = l.use_case and g.state = 'live'
join lateral (
    select k.document_version_id, count(*) as chunks,
           count(*) filter (where k.status = 1 and k.expires_at > clock_timestamp()) as served
    from rag.chunk k where k.generation_id = g.generation_id group by k.document_version_id
) c on true
join catalog.document_version v on v.document_version_id = c.document_version_id
join catalog.document d on d.document_id = v.document_id;

-- nightly_results: one row per night: what the gate said about the candidate, who answered, and whether it went live.
create view lineage.nightly_results as
select d.use_case, d.decision_id, r.dag_run_id as night, d.decided_at, d.requested_by, m.digest as candidate_digest,
       p.digest as policy_digest, p.sealed_at as policy_sealed_at, d.outcome, d.checks, d.evidence, d.needs_person,
       a.answer, a.person, a.reason, a.answered_at, w.deployment_id, w.valid_from as live_from, w.valid_to as live_to
from release.decision d
join lineage.artifact_version m on m.version_id = d.model_version_id
left join lineage.run r on r.run_id = d.run_id
left join release.policy p on p.policy_id = d.policy_id
left join lateral (
    select * from release.approval a where a.decision_id = d.decision_id order by a.approval_id desc limit 1
) a on true
left join lineage.deployment w on w.decision_id = d.decision_id
where d.kind = 'model';

create view lineage.run_history as
select r.run_id, j.use_case, j.name as job, r.state, r.orchestrator, r.dag_id, r.dag_run_id, r.task_id, r.map_index,
       r.requested_by, r.cache_key, r.previous_run_id, r.reused_from, r.facts, r.started_at, r.ended_at,
       t.fence, t.login, t.error_class
from lineage.run r
join lineage.job j using (job_id)
left join lateral (select * from lineage.attempt t where t.run_id = r.run_id order by t.fence desc limit 1) t on true;

create view catalog.dataset_versions as
select s.use_case, s.kind, v.version, v.digest, v.counts, v.committed_at, v.artifact_version_id
from catalog.dataset_version v join catalog.dataset s using (dataset_id);

create view catalog.findings as
select f.finding_id, f.use_case, f.run_id, f.file, f.line, f.rule, f.severity, f.detail, f.digest,
       s.decision, s.person, s.decided_at
from catalog.finding f
left join lateral (
    select * from catalog.steward_decision s where s.finding_id = f.finding_id order by s.steward_decision_id desc limit 1
) s on true;

create view eval.evaluations as
select e.evaluation_id, e.use_case, e.run_id, s.name as suite, s.gated, e.subject, m.digest as model_digest,
       e.index_version_id is not null as retrieval, e.metrics, e.evaluated_at
from eval.evaluation e
join eval.suite s using (suite_id)
join lineage.artifact_version m on m.version_id = e.model_version_id;

create view rag.retrievals as
select audit_id, at, use_case, principal, tenant, query_digest, deployment_id, generation_id, route, visible,
       cardinality(chunk_ids) as returned, reason
from rag.retrieval_audit;

create view rag.generations as
select generation_id, use_case, state, embedder, digest, chunks, gates, created_at, attached_at from rag.generation;
