-- Views: what people ask, without text of documents, examples, prompts or answers. They run with their owner's rights;
-- the reader role sees them and no table.

create view lineage.live as
select d.deployment_id, d.use_case, d.alias, d.model_version_id, m.digest as model_digest, d.index_version_id,
       i.digest as index_digest, d.decision_id, d.promoted_by, d.why, d.valid_from
from lineage.deployment d
left join lineage.artifact_version m on m.version_id = d.model_version_id
left join lineage.artifact_version i on i.version_id = d.index_version_id
where d.valid_to is null;

-- deployments: everything that ever was live.
create view lineage.deployments as
select d.deployment_id, d.use_case, d.alias, d.model_version_id, m.digest as model_digest, d.index_version_id,
       i.digest as index_digest, d.decision_id, d.replaces, d.promoted_by, d.why, d.login, d.valid_from, d.valid_to
from lineage.deployment d
left join lineage.artifact_version m on m.version_id = d.model_version_id
left join lineage.artifact_version i on i.version_id = d.index_version_id;

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

-- production_documents: the documents that the live index can quote, and by whom they may be read. No titles: a title
-- may be a document's first words.
create view lineage.production_documents as
select l.use_case, l.deployment_id, g.generation_id, d.document_key, v.document_version_id, v.digest, v.tenant,
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
    select d.decision, d.person, d.decided_at from catalog.steward_decision d
    where d.finding_id = f.finding_id order by d.steward_decision_id desc limit 1
) s on true;

-- worklist: what the newest check and commit of a use case left out, and the steward has not decided. A decision to leave a row out
-- holds for every later check; one to take it in holds until its day, and a finding that comes in spite of it waits again.
create view catalog.worklist as
with newest as (
    select distinct on (j.use_case, j.name) j.use_case, coalesce(r.reused_from, r.run_id) as run_id
    from lineage.run r
    join lineage.job j using (job_id)
    where j.name in ('data.check', 'data.commit')
      and (r.state in ('succeeded', 'reused') or exists (select from catalog.finding f where f.run_id = r.run_id))
    order by j.use_case, j.name, r.started_at desc
)
select f.finding_id, f.use_case, f.run_id, f.file, f.line, f.rule, f.severity, f.detail, f.digest
from newest n
join catalog.finding f on f.run_id = n.run_id and f.use_case = n.use_case and f.severity in ('rejected', 'waiting')
left join lateral (
    select d.decision, d.until from catalog.steward_decision d
    where d.finding_id = f.finding_id order by d.steward_decision_id desc limit 1
) own on true
where (own.decision is null or own.until < (clock_timestamp() at time zone 'UTC')::date)
  and 'reject' is distinct from (
      select d.decision from catalog.finding o join catalog.steward_decision d using (finding_id)
      where o.use_case = f.use_case and o.digest = f.digest and o.rule = f.rule
      order by d.steward_decision_id desc limit 1);

-- waivers: rows that a rule leaves out, and that a person has accepted.
create view catalog.waivers as
select w.use_case, w.rule, w.digest, w.file, w.line, w.finding_id, w.person, w.reason, w.decided_at, w.until,
       w.until is null or w.until >= (clock_timestamp() at time zone 'UTC')::date as in_force
from (
    select distinct on (f.use_case, f.rule, f.digest) f.use_case, f.rule, f.digest, f.file, f.line, f.finding_id,
           d.decision, d.person, d.reason, d.decided_at, d.until
    from catalog.finding f join catalog.steward_decision d using (finding_id)
    where f.digest is not null
    order by f.use_case, f.rule, f.digest, d.steward_decision_id desc
) w
where w.decision = 'accept';

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

create view lineage.artifacts as
select v.version_id, a.use_case, a.kind, a.name, v.digest, v.size_bytes, v.private, v.created_at, v.purged_at
from lineage.artifact_version v join lineage.artifact a using (artifact_id);

create view lineage.outputs as
select o.run_id, o.role, o.version_id from lineage.run_output o;

create view lineage.attempts as
select t.run_id, t.fence, j.use_case, j.name as job, t.state, t.login, p.rolsuper as superuser,
       p.rolname = 'nightshift_owner' as owner, r.requested_by, t.started_at, t.ended_at, t.error_class
from lineage.attempt t
join lineage.run r using (run_id)
join lineage.job j using (job_id)
left join pg_catalog.pg_roles p on p.rolname = t.login;

-- run_keys: what each run's result depends on, part by part.
create view lineage.run_keys as
select r.run_id, j.use_case, j.name as job, r.state, r.dag_id, r.task_id, r.map_index, r.params, r.cache_key, r.cache_parts,
       r.previous_run_id, r.reused_from, r.started_at
from lineage.run r join lineage.job j using (job_id);

-- broken: runs that failed, were interrupted or lost, and which nothing has made good since: neither the same task nor the same work.
create view lineage.broken as
select distinct on (j.use_case, j.name, r.dag_id, r.task_id, r.map_index)
       j.use_case, j.name as job, r.dag_id, r.dag_run_id, r.task_id, r.run_id, r.state, t.error_class, r.started_at, r.ended_at
from lineage.run r
join lineage.job j using (job_id)
left join lateral (
    select t.error_class from lineage.attempt t where t.run_id = r.run_id order by t.fence desc limit 1
) t on true
where r.state in ('failed', 'interrupted', 'lost')
  and not exists (select from lineage.run g
                  where g.job_id = r.job_id and g.state in ('succeeded', 'reused') and g.started_at > r.started_at
                    and (g.params = r.params
                         or (g.dag_id = r.dag_id and g.task_id = r.task_id and g.map_index is not distinct from r.map_index)))
order by j.use_case, j.name, r.dag_id, r.task_id, r.map_index, r.started_at desc;

-- nights: one row per night of retraining. A night is finished when its gate ran, and unchanged when its candidate was
-- the champion already, so that there was nothing to evaluate. A night by hand is its gate alone.
create view lineage.nights as
select n.use_case, n.night, n.started_at, n.ended_at, n.runs, n.reused, n.failed,
       case when n.running > 0 then 'running'
            when n.failed > 0 then 'failed'
            when n.gate_run is not null then 'finished'
            when exists (select from lineage.run_history h
                         join lineage.run_output o on o.run_id = h.run_id
                         join lineage.artifact_version v on v.version_id = o.version_id
                         join lineage.artifact a on a.artifact_id = v.artifact_id and a.kind = 'adapter' and a.name = 'candidate'
                         join lineage.deployment w on w.use_case = n.use_case and w.model_version_id = v.version_id
                              and w.valid_from <= n.ended_at and (w.valid_to is null or w.valid_to > n.started_at)
                         where h.use_case = n.use_case and h.dag_run_id = n.night and h.dag_id = n.use_case || '_retrain')
            then 'unchanged'
            else 'incomplete' end as state,
       d.decision_id, d.outcome, d.needs_person
from (
    select h.use_case, coalesce(h.dag_run_id, h.run_id::text) as night, min(h.started_at) as started_at,
           max(h.ended_at) as ended_at, count(*) as runs, count(*) filter (where h.state = 'reused') as reused,
           count(*) filter (where h.state in ('failed', 'lost')) as failed, count(*) filter (where h.state = 'running') as running,
           (array_agg(coalesce(h.reused_from, h.run_id) order by h.started_at desc)
               filter (where h.job = 'release.gate' and h.state in ('succeeded', 'reused')))[1] as gate_run
    from lineage.run_history h
    where h.dag_id = h.use_case || '_retrain' or (h.orchestrator = 'cli' and h.job = 'release.gate')
    group by h.use_case, coalesce(h.dag_run_id, h.run_id::text)
) n
left join lateral (
    select d.decision_id, d.outcome, d.needs_person from release.decision d where d.run_id = n.gate_run order by d.decision_id desc limit 1
) d on true;

-- document_uses: the dataset versions that hold a document, or examples that speak of it.
create view catalog.document_uses as
select s.use_case, d.document_key, s.kind, v.version, v.digest, v.artifact_version_id, count(*) as members
from catalog.document d
join catalog.document_version w using (document_id)
join catalog.document_member m using (document_version_id)
join catalog.dataset s using (dataset_id)
join catalog.dataset_version v on v.dataset_id = m.dataset_id and v.version >= m.added_in
                              and (m.removed_in is null or v.version < m.removed_in)
group by s.use_case, d.document_key, s.kind, v.version, v.digest, v.artifact_version_id
union all
select s.use_case, e.document_key, s.kind, v.version, v.digest, v.artifact_version_id, count(*)
from (
    select x.use_case, x.digest, unnest(x.documents) as document_key from catalog.example x
    union all
    select x.use_case, x.digest, unnest(x.documents) from catalog.locked_example x
) e
join catalog.dataset s on s.use_case = e.use_case and s.kind = 'examples'
join catalog.example_member m on m.dataset_id = s.dataset_id and m.example_digest = e.digest
join catalog.dataset_version v on v.dataset_id = m.dataset_id and v.version >= m.added_in
                              and (m.removed_in is null or v.version < m.removed_in)
group by s.use_case, e.document_key, s.kind, v.version, v.digest, v.artifact_version_id;

-- dataset_changes: what each version added and removed, against the one before it.
create view catalog.dataset_changes as
select s.use_case, s.kind, v.version, v.digest, v.committed_at,
       (select count(*) from catalog.example_member m where m.dataset_id = v.dataset_id and m.added_in = v.version)
       + (select count(*) from catalog.document_member m where m.dataset_id = v.dataset_id and m.added_in = v.version) as added,
       (select count(*) from catalog.example_member m where m.dataset_id = v.dataset_id and m.removed_in = v.version)
       + (select count(*) from catalog.document_member m where m.dataset_id = v.dataset_id and m.removed_in = v.version) as removed,
       (select count(*) from catalog.example_member m where m.dataset_id = v.dataset_id and m.added_in <= v.version
        and (m.removed_in is null or m.removed_in > v.version))
       + (select count(*) from catalog.document_member m where m.dataset_id = v.dataset_id and m.added_in <= v.version
          and (m.removed_in is null or m.removed_in > v.version)) as members
from catalog.dataset_version v join catalog.dataset s using (dataset_id);

-- served_documents: what the live index holds, under the rights that retrieval enforces: those of the chunks.
create view rag.served_documents as
select l.use_case, l.deployment_id, g.generation_id, k.document_key, k.document_version_id, k.tenant, s.classification,
       s.groups, count(*) as chunks, s.uses
from lineage.live l
join rag.generation g on g.artifact_version_id = l.index_version_id and g.use_case = l.use_case and g.state = 'live'
join rag.chunk k on k.generation_id = g.generation_id and k.status = 1 and k.expires_at > clock_timestamp()
join rag.acl_set s on s.acl_id = k.acl_id
group by l.use_case, l.deployment_id, g.generation_id, k.document_key, k.document_version_id, k.tenant, s.classification, s.groups, s.uses;

-- access: the documents that each principal can be answered from, by the rule of rag.acl_ids for the purpose rag.
create view rag.access as
select p.use_case, p.name as principal, p.tenant, p.groups as principal_groups, p.clearance, d.deployment_id, d.generation_id,
       d.document_key, d.document_version_id, d.classification, d.groups, d.chunks
from rag.principal p
join rag.served_documents d on d.use_case = p.use_case and d.tenant = p.tenant
where 'rag' = any (d.uses) and rag.rank(d.classification) <= rag.rank(p.clearance)
  and (d.classification = 'public' or d.groups && p.groups);

-- document_retrievals: which answers were given from which document. A dropped generation's chunks are gone, and with
-- them the names of what they came from.
create view rag.document_retrievals as
select a.audit_id, a.at, a.use_case, a.principal, a.tenant, a.deployment_id, a.generation_id, k.document_key,
       k.document_version_id, count(*) as chunks
from rag.retrieval_audit a
cross join lateral unnest(a.chunk_ids) as hit (chunk_id)
join rag.chunk k on k.generation_id = a.generation_id and k.tenant = a.tenant and k.chunk_id = hit.chunk_id
group by a.audit_id, a.at, a.use_case, a.principal, a.tenant, a.deployment_id, a.generation_id, k.document_key, k.document_version_id;

-- waiting: decisions that a person has still to answer.
create view release.waiting as
select d.decision_id, d.use_case, d.kind, d.outcome, m.digest as candidate_digest, d.requested_by, d.decided_at,
       (select count(*) from release.approval a where a.decision_id = d.decision_id) as refused_answers
from release.decision d
left join lineage.artifact_version m on m.version_id = d.model_version_id
where d.needs_person and d.outcome <> 'block'
  and not exists (select from release.approval a where a.decision_id = d.decision_id and a.answer <> 'refused');

create view audit.events as
select e.event_id, e.at, e.login, e.object, e.operation, e.key, m.block_no, e.row_key, e.digest
from audit.event e left join audit.block_member m using (event_id);

create view audit.chain as
select b.block_no, encode(b.previous_hash, 'hex') as previous_hash, encode(b.hash, 'hex') as hash, b.events, b.sealed_at
from audit.block b;

-- generated_rows: what wrote the rows of the newest dataset versions that no person wrote, by digest.
create view catalog.generated_rows as
select d.use_case, m.example_digest as digest, m.split, g.made_by, g.prompt_digest, g.made_on, g.checked_by
from catalog.dataset d
join catalog.example_member m on m.dataset_id = d.dataset_id and m.removed_in is null
cross join lateral (
    select * from catalog.generated_row g
    where g.use_case = d.use_case and g.digest = m.example_digest order by g.generated_row_id desc limit 1) g
where d.kind = 'examples' and g.made_by is not null;

-- training_curve: what each training measured at each step, also while it runs.
create view lineage.training_curve as
select j.use_case, j.name as job, r.run_id, r.state, r.started_at, s.step, s.epoch, s.loss, s.eval_loss, s.learning_rate,
       s.gradient_norm, s.margin, s.accuracy, s.eval_margin, s.eval_accuracy, s.tokens_per_second, s.supervised_per_second,
       s.memory_mib, s.fence, s.at
from lineage.training_step s join lineage.run r using (run_id) join lineage.job j using (job_id);
