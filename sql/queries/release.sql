-- policy --
-- A sealed policy, with when it was last sealed, and which policy of its use case was sealed last.
select p.policy_id, p.use_case, p.digest, p.content, p.sealed_by, p.sealed_at,
       (select max(s.sealed_at) from release.sealing s where s.policy_id = p.policy_id) as sealed_again_at,
       release.in_force(p.use_case, clock_timestamp()) as in_force
from release.policy p
where p.policy_id = :'policy_id'::bigint;

-- trained --
-- When a model was first made, and last: runs that gave these very weights, under whatever name.
select release.trained_at(:'use_case', :'digest') as first_at, max(r.started_at) as last_at,
       release.in_force(:'use_case', release.trained_at(:'use_case', :'digest')) as policy_id
from lineage.artifact_version v
join lineage.artifact a on a.artifact_id = v.artifact_id and a.use_case = :'use_case'
join lineage.run_output o on o.version_id = v.version_id
join lineage.run r on r.run_id = o.run_id and r.state = 'succeeded'
where v.digest = :'digest';

-- readers --
-- What persons said who read a sample of the dataset version that a model was trained on to its end: of the newest such sample.
with sample as (
    select w.review_id, max(v.version) as version
    from lineage.ancestry(:'model'::bigint) a
    join lineage.run_output o on o.version_id = a.version_id
    join lineage.run t on t.run_id = o.run_id and t.state = 'succeeded'
    join lineage.job j on j.job_id = t.job_id and lineage.trains(j.name)
    join lineage.run_input i on i.run_id = t.run_id and i.role = 'dataset'
    join catalog.dataset_versions v on v.artifact_version_id = i.version_id and v.kind = 'examples' and v.use_case = j.use_case
    join catalog.reviews w on w.use_case = v.use_case and w.version = v.version and w.finished
    group by w.review_id order by w.review_id desc limit 1
)
select r.review_id, s.version, r.rater, r.read, r.good
from sample s join catalog.reviews r using (review_id)
where r.finished
order by r.rater;

-- rolled_back --
-- When, by whom and why a model was last taken out of production by a rollback.
select n.valid_from as at, n.promoted_by, n.deployment_id
from lineage.deployment d
join lineage.artifact_version v on v.version_id = d.model_version_id and v.digest = :'digest'
join lineage.deployment n on n.replaces = d.deployment_id
join release.decision c on c.decision_id = n.decision_id and c.kind = 'rollback'
left join lineage.artifact_version m on m.version_id = n.model_version_id
where d.use_case = :'use_case' and m.digest is distinct from v.digest
order by n.deployment_id desc
limit 1;

-- evaluations --
-- The evaluations which an evaluation artifact stands for.
select e.evaluation_id, s.name as suite, case when e.index_version_id is null then 'without' else 'with' end as condition
from eval.evaluation e
join eval.suite s using (suite_id)
where e.artifact_version_id = :'artifact_version_id'::bigint
order by e.evaluation_id;

-- insert_comparison --
-- Records a paired difference, unless the same pair was compared before.
insert into eval.comparison (candidate_id, baseline_id, metric, difference, low, high, confidence, n, method)
values (:'candidate'::bigint, :'baseline'::bigint, :'metric', :'difference'::float8, :'low'::float8, :'high'::float8,
        :'confidence'::float8, :'n'::int, :'method')
on conflict (candidate_id, baseline_id, metric, method) do nothing;

-- decision --
-- One decision, with its final answer and the deployment that it brought about.
select d.decision_id, d.use_case, d.kind, d.policy_id, d.run_id, d.model_version_id, d.index_version_id, d.replaces, d.outcome,
       d.checks, d.evidence, d.needs_person, d.requested_by, d.decided_at, m.digest as model_digest, i.digest as index_digest,
       ma.kind as model_kind, m.uri as model_uri, m.purged_at as model_purged_at, g.generation_id, a.answer, a.person, w.deployment_id
from release.decision d
left join lineage.artifact_version m on m.version_id = d.model_version_id
left join lineage.artifact ma on ma.artifact_id = m.artifact_id
left join lineage.artifact_version i on i.version_id = d.index_version_id
left join rag.generation g on g.artifact_version_id = d.index_version_id and g.use_case = d.use_case
                          and g.state in ('attached', 'live', 'retired')
left join release.approval a on a.decision_id = d.decision_id and a.answer <> 'refused'
left join lineage.deployment w on w.decision_id = d.decision_id
where d.decision_id = :'decision_id'::bigint;

-- decision_of_run --
-- The decision that a gate's run came to.
select decision_id from release.decision where run_id = :'run'::uuid and use_case = :'use_case' and kind = 'model';

-- eligible --
-- The persons who may let a decision through, as far as they can be asked in Airflow.
select name, airflow_id from release.eligible(:'decision_id'::bigint) where airflow_id is not null;

-- open --
-- Decisions about a model that were let through by the gate and are neither live nor turned down, newest first. Stale: what
-- they were to replace is not live any more.
select d.decision_id, d.outcome, d.needs_person, d.requested_by, d.decided_at, m.digest as model_digest, i.digest as index_digest,
       a.answer, d.replaces is distinct from l.deployment_id as stale,
       (select count(*) from release.approval f where f.decision_id = d.decision_id and f.answer = 'refused') as refused
from release.decision d
join lineage.artifact_version m on m.version_id = d.model_version_id
left join lineage.artifact_version i on i.version_id = d.index_version_id
left join release.approval a on a.decision_id = d.decision_id and a.answer <> 'refused'
left join lineage.live l on l.use_case = d.use_case and l.alias = 'live'
where d.use_case = :'use_case' and d.kind = 'model' and d.outcome <> 'block'
  and (a.answer is null or a.answer = 'approve')
  and not exists (select from lineage.deployment w where w.decision_id = d.decision_id)
order by d.decision_id desc;

-- deployment --
-- One deployment, with what it needs to stand again.
select d.deployment_id, d.use_case, d.model_version_id, d.index_version_id, d.valid_from, d.valid_to, d.decision_id, d.promoted_by, d.why,
       ma.kind as model_kind, m.digest as model_digest, m.uri as model_uri, m.purged_at as model_purged_at,
       i.digest as index_digest, i.purged_at as index_purged_at, g.generation_id, g.state as generation_state
from lineage.deployment d
left join lineage.artifact_version m on m.version_id = d.model_version_id
left join lineage.artifact ma on ma.artifact_id = m.artifact_id
left join lineage.artifact_version i on i.version_id = d.index_version_id
left join rag.generation g on g.artifact_version_id = d.index_version_id and g.use_case = d.use_case
                          and g.state in ('attached', 'live', 'retired')
where d.deployment_id = :'deployment_id'::bigint;

-- history --
-- What was live, newest first.
select d.deployment_id, m.digest as model_digest, i.digest as index_digest, d.decision_id, d.promoted_by, d.why, d.valid_from, d.valid_to
from lineage.deployment d
left join lineage.artifact_version m on m.version_id = d.model_version_id
left join lineage.artifact_version i on i.version_id = d.index_version_id
where d.use_case = :'use_case' and d.alias = 'live'
order by d.deployment_id desc;
