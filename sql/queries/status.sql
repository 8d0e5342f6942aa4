-- live --
-- What is live for a use case, with the index generation behind it.
select l.deployment_id, l.model_digest, l.index_digest, l.decision_id, l.promoted_by, l.why, l.valid_from,
       g.generation_id, g.chunks, g.attached_at
from lineage.live l
left join lateral (
    select * from rag.generations g
    where g.use_case = l.use_case and g.digest = l.index_digest and g.state = 'live' limit 1
) g on true
where l.use_case = :'use_case' and l.alias = 'live';

-- index_checked --
-- When the live index was last known to hold what the documents say: a plan that found nothing to do, or a swap.
select max(at) as at from (
    select max(h.ended_at) as at from lineage.run_history h
    where h.use_case = :'use_case' and h.job = 'retrieval.plan' and h.state in ('succeeded', 'reused')
      and h.facts ->> 'unchanged' = 'true'
    union all
    select max(d.valid_from) from lineage.deployments d join release.decision r on r.decision_id = d.decision_id
    where d.use_case = :'use_case' and r.kind = 'index'
) c;

-- last_night --
-- The newest night, in whatever state.
select n.night, n.state, n.started_at, n.ended_at, n.runs, n.reused, n.failed, n.decision_id, n.outcome, d.checks
from lineage.nights n
left join release.decision d on d.decision_id = n.decision_id
where n.use_case = :'use_case' order by n.started_at desc limit 1;

-- last_good_night --
-- When the newest night ended that came to its end.
select max(ended_at) as at from lineage.nights where use_case = :'use_case' and state in ('finished', 'unchanged');

-- waiting --
-- The decisions that wait for a person.
select decision_id, kind, outcome, candidate_digest, requested_by, decided_at
from release.waiting where use_case = :'use_case' order by decision_id;

-- incidents --
-- Runs that failed and were not made good.
select job, dag_id, dag_run_id, task_id, run_id, state, error_class, ended_at
from lineage.broken where use_case = :'use_case' order by ended_at desc;

-- now --
-- The database's clock.
select clock_timestamp() as now;

-- use_cases --
-- The use cases that the database has heard of.
select distinct use_case from lineage.run_history order by use_case;
