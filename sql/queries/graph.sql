-- versions --
-- Artifact versions whose digest begins so.
select version_id, use_case, kind, name, digest from lineage.artifacts where digest like :'ref' || '%' order by version_id;

-- version --
-- The artifact version with this id.
select version_id, use_case, kind, name, digest from lineage.artifacts where version_id = :'number'::bigint;

-- decision --
-- The pair that a decision is about.
select model_version_id, index_version_id from release.decision where decision_id = :'number'::bigint;

-- deployment --
-- The pair that a deployment made live.
select model_version_id, index_version_id from lineage.deployments where deployment_id = :'number'::bigint;

-- up --
-- Everything that a version was made from, itself included, with the run that first made each.
select v.version_id, v.use_case, v.kind, v.name, v.digest, v.private, v.purged_at, r.run_id, r.job, r.login, r.requested_by, r.started_at
from lineage.ancestry(:'version_id'::bigint) x
join lineage.artifacts v using (version_id)
left join lateral (
    select h.* from lineage.outputs o join lineage.run_history h on h.run_id = o.run_id
    where o.version_id = v.version_id and h.state = 'succeeded' order by h.started_at limit 1
) r on true
order by v.version_id;

-- down --
-- Everything that a version went into, itself included, with the run that first made each.
select v.version_id, v.use_case, v.kind, v.name, v.digest, v.private, v.purged_at, r.run_id, r.job, r.login, r.requested_by, r.started_at
from lineage.descendants(:'version_id'::bigint) x
join lineage.artifacts v using (version_id)
left join lateral (
    select h.* from lineage.outputs o join lineage.run_history h on h.run_id = o.run_id
    where o.version_id = v.version_id and h.state = 'succeeded' order by h.started_at limit 1
) r on true
order by v.version_id;

-- edges --
-- What went into what among the given versions.
select source, target, min(run_id::text) as run_id
from lineage.edges
where source = any (:'versions'::bigint[]) and target = any (:'versions'::bigint[])
group by source, target
order by source, target;

-- runs --
-- Runs whose id begins so, with the parts of their keys.
select run_id, use_case, job, state, cache_key, cache_parts, reused_from, started_at
from lineage.run_keys where run_id::text like :'ref' || '%' order by started_at;

-- run_before --
-- The last finished run of the same job before this one: the same task's, else one with the same parameters, else any.
select o.run_id, o.cache_parts, o.started_at
from lineage.run_keys r
join lineage.run_keys o on o.use_case = r.use_case and o.job = r.job and o.state in ('succeeded', 'reused')
                       and o.started_at < r.started_at
where r.run_id = :'run'::uuid
order by (o.dag_id = r.dag_id and o.task_id = r.task_id and o.map_index is not distinct from r.map_index) is true desc,
         o.params = r.params desc, o.started_at desc
limit 1;

-- use_cases --
-- The use cases that anything ever ran for.
select distinct use_case from lineage.run_history order by use_case;
