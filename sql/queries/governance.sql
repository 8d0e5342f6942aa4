-- newest_decision --
-- The newest decision about a model of a use case.
select decision_id from release.decision where use_case = :'use_case' and kind = 'model' order by decision_id desc limit 1;

-- live_decision --
-- The newest decision about a model that let through the one which is live.
select d.decision_id
from lineage.live l
join release.decision d on d.use_case = l.use_case and d.kind = 'model' and d.model_version_id = l.model_version_id
join lineage.deployment w on w.decision_id = d.decision_id
where l.use_case = :'use_case'
order by w.deployment_id desc
limit 1;

-- decision --
-- A decision with the digests of what it is about and, where there is one, the deployment that it brought about.
select d.decision_id, d.use_case, d.kind, d.outcome, d.needs_person, d.requested_by, d.login, d.decided_at, d.run_id, d.policy_id,
       d.replaces, d.checks, d.evidence, m.digest as model_digest, i.digest as index_digest, w.deployment_id
from release.decision d
left join lineage.artifact_version m on m.version_id = d.model_version_id
left join lineage.artifact_version i on i.version_id = d.index_version_id
left join lineage.deployment w on w.decision_id = d.decision_id
where d.decision_id = :'decision_id'::bigint;

-- policy --
-- The sealed policy that a decision applied.
select p.digest, p.content, p.sealed_by, p.login, p.sealed_at
from release.policy p join release.decision d using (policy_id)
where d.decision_id = :'decision_id'::bigint;

-- approvals --
-- Every answer to a decision, in order, also those that the rules refused.
select a.answer, a.person, a.reason, a.login, a.answered_at
from release.approval a where a.decision_id = :'decision_id'::bigint order by a.approval_id;

-- waivers --
-- Every waiver of a decision's checks.
select w.check_name, w.person, w.reason, w.expires_at, w.granted_at
from release.waiver w where w.decision_id = :'decision_id'::bigint order by w.waiver_id;

-- deployment --
-- What the decision brought about. When it ended is no part of it: that comes later.
select w.deployment_id, w.alias, w.replaces, w.promoted_by, w.why, w.login, w.valid_from
from lineage.deployment w where w.decision_id = :'decision_id'::bigint order by w.deployment_id;

-- versions --
-- What a decision rests on: the pair that it is about, what its gate read and wrote, everything those were made from by
-- the time of the decision, and the cards and check reports about that, each with the run that first made it.
with recursive decided as (
    select * from release.decision d where d.decision_id = :'decision_id'::bigint
), known as (
    select r.* from lineage.run r, decided d
    where r.state in ('succeeded', 'reused') and r.started_at <= d.decided_at
), up as (
    select s.version_id from (
        select d.model_version_id as version_id from decided d
        union select d.index_version_id from decided d
        union select i.version_id from lineage.run_input i join decided d using (run_id)
        union select o.version_id from lineage.run_output o join decided d using (run_id)
    ) s where s.version_id is not null
    union
    select e.source from up
    join lineage.edges e on e.target = up.version_id
    join known r on r.run_id = e.run_id
), beside as (
    select version_id from up
    union
    select b.version_id
    from up
    join lineage.run_input i on i.version_id = up.version_id
    join known r on r.run_id = i.run_id
    join lineage.run_output b on b.run_id = r.run_id
    join lineage.artifact_version v on v.version_id = b.version_id
    join lineage.artifact a on a.artifact_id = v.artifact_id and a.kind = 'card'
    union
    select b.version_id
    from up
    join lineage.run_output o on o.version_id = up.version_id
    join known r on r.run_id = o.run_id
    join lineage.run_output b on b.run_id = r.run_id
    join lineage.artifact_version v on v.version_id = b.version_id
    join lineage.artifact a on a.artifact_id = v.artifact_id and a.kind = 'check_report'
)
select v.version_id, a.use_case, a.kind, a.name, v.digest, v.uri, v.size_bytes, v.private, v.purged_at is not null as purged,
       r.run_id, j.name as job, t.login, r.requested_by, r.started_at, r.ended_at
from beside b
join lineage.artifact_version v on v.version_id = b.version_id
join lineage.artifact a on a.artifact_id = v.artifact_id
left join lateral (
    select k.* from lineage.run_output o join known k on k.run_id = o.run_id
    where o.version_id = v.version_id and k.state = 'succeeded' order by k.started_at limit 1
) r on true
left join lineage.job j on j.job_id = r.job_id
left join lineage.attempt t on t.run_id = r.run_id and t.state = 'succeeded'
order by a.kind, a.name, v.version_id;

-- runs --
-- The runs that made something of the given versions, with what they measured and where they ran.
select r.run_id, j.name as job, r.state, r.orchestrator, r.dag_id, r.dag_run_id, r.task_id, r.requested_by, r.params, r.facts,
       r.cache_key, r.started_at, r.ended_at, t.login, t.fence, t.environment
from lineage.run r
join lineage.job j using (job_id)
left join lineage.attempt t on t.run_id = r.run_id and t.state = 'succeeded'
where r.run_id = any (:'runs'::uuid[])
order by r.started_at, r.run_id;

-- curves --
-- The losses of the given runs' trainings by step, for pictures: of many steps, means over as many as make a hundred points.
-- A loss that is no number is none here: such a training has failed.
select c.job, c.run_id, max(c.step) as step, avg(c.loss) as loss, avg(c.eval_loss) as eval_loss
from (
    select t.*, width_bucket(t.step, 0, max(t.step) over (partition by t.run_id) + 1, 100) as point
    from lineage.training_curve t
    where t.run_id = any (:'runs'::uuid[])
      and (t.loss is null or t.loss < 'infinity') and (t.eval_loss is null or t.eval_loss < 'infinity')
) c
group by c.job, c.run_id, c.point
order by c.job, c.run_id, c.point;

-- edges --
-- What went into what among the given versions, by the runs that made them.
select distinct m.digest as made_from, w.digest as went_into
from lineage.edges e
join lineage.artifact_version m on m.version_id = e.source
join lineage.artifact_version w on w.version_id = e.target
where e.run_id = any (:'runs'::uuid[]) and e.source = any (:'versions'::bigint[]) and e.target = any (:'versions'::bigint[])
order by made_from, went_into;

-- datasets --
-- The dataset versions behind the given artifact versions.
select s.kind, v.version, v.digest, v.counts, v.committed_at
from catalog.dataset_version v join catalog.dataset s using (dataset_id)
where v.artifact_version_id = any (:'versions'::bigint[])
order by s.kind, v.version;

-- findings --
-- How many rows the checks behind the given runs rejected or warned of, by rule.
select f.rule, f.severity, count(*) as findings
from catalog.finding f
where f.run_id = any (:'runs'::uuid[])
group by f.rule, f.severity
order by f.severity, f.rule;

-- evaluations --
-- The scores behind the given evaluation artifacts. A model's evaluation is reused when it becomes the champion's: what the
-- decision called it counts, not what it was called when it was made.
select distinct on (v.digest, s.name, s.digest, e.index_version_id is not null)
       coalesce((select string_agg(substr(k.name, length('evaluation.') + 1), ', ' order by k.name)
                 from jsonb_each_text(d.evidence) as k (name, digest)
                 where k.digest = v.digest and k.name like 'evaluation.%'), e.subject) as subject,
       s.name as suite, s.digest as suite_digest, s.cases, s.gated, e.index_version_id is not null as retrieval,
       m.digest as model_digest, i.digest as index_digest, v.digest as artifact_digest, e.metrics, e.evaluated_at
from eval.evaluation e
join release.decision d on d.decision_id = :'decision_id'::bigint
join eval.suite s using (suite_id)
join lineage.artifact_version m on m.version_id = e.model_version_id
join lineage.artifact_version v on v.version_id = e.artifact_version_id
left join lineage.artifact_version i on i.version_id = e.index_version_id
where e.artifact_version_id = any (:'versions'::bigint[])
order by v.digest, s.name, s.digest, e.index_version_id is not null, e.evaluation_id;

-- comparisons --
-- The paired differences of the decision's candidate to the others among the given evaluation artifacts.
select distinct on (cs.name, c.metric, c.method, ca.digest, ba.digest, ce.index_version_id is not null)
       cs.name as suite, 'candidate' as candidate,
       coalesce((select string_agg(substr(k.name, length('evaluation.') + 1), ', ' order by k.name)
                 from jsonb_each_text(d.evidence) as k (name, digest)
                 where k.digest = ba.digest and k.name like 'evaluation.%'), be.subject) as baseline,
       ce.index_version_id is not null as candidate_retrieval, be.index_version_id is not null as baseline_retrieval,
       ca.digest as candidate_digest, ba.digest as baseline_digest,
       c.metric, c.difference, c.low, c.high, c.confidence, c.n, c.method
from eval.comparison c
join eval.evaluation ce on ce.evaluation_id = c.candidate_id
join eval.evaluation be on be.evaluation_id = c.baseline_id
join release.decision d on d.decision_id = :'decision_id'::bigint and d.model_version_id = ce.model_version_id
join eval.suite cs on cs.suite_id = ce.suite_id
join lineage.artifact_version ca on ca.version_id = ce.artifact_version_id
join lineage.artifact_version ba on ba.version_id = be.artifact_version_id
where ce.artifact_version_id = any (:'versions'::bigint[]) and be.artifact_version_id = any (:'versions'::bigint[])
order by cs.name, c.metric, c.method, ca.digest, ba.digest, ce.index_version_id is not null, c.comparison_id;

-- index --
-- The index generation that a decision is about, and what its gates measured before it was swapped in.
select g.generation_id, g.digest, g.embedder, g.chunker, g.chunks, g.tenants, g.gates, g.attached_at
from release.decision d
join rag.generation g on g.use_case = d.use_case and g.artifact_version_id = d.index_version_id and g.attached_at <= d.decided_at
where d.decision_id = :'decision_id'::bigint
order by g.generation_id desc
limit 1;

-- packet_digest --
-- The registered packets with this digest.
select v.version_id, a.use_case, v.created_at
from lineage.artifact_version v join lineage.artifact a using (artifact_id)
where a.kind = 'packet' and v.digest = :'digest'
order by v.version_id;
