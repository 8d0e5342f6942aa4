-- runs_by_key --
-- Finished runs of this login, use case and job that had this cache key, newest first.
select r.run_id, r.facts
from lineage.run r
join lineage.job j using (job_id)
where r.cache_key = :'key' and r.state = 'succeeded' and j.use_case = :'use_case' and j.name = :'job'
  and exists (select from lineage.attempt a where a.run_id = r.run_id and a.state = 'succeeded' and a.login = session_user)
order by r.ended_at desc;

-- run_outputs --
-- What a run recorded as its outputs.
select o.role, v.version_id, a.kind, a.name, v.digest, v.uri, v.purged_at, v.meta
from lineage.run_output o
join lineage.artifact_version v using (version_id)
join lineage.artifact a using (artifact_id)
where o.run_id = :'run'::uuid
order by o.role;

-- latest_version --
-- The standing version of an artifact that a run registered last. Content that comes back has the version from then: the
-- newest is not the highest id.
select v.version_id, v.digest, v.meta
from lineage.artifact a
join lineage.artifact_version v using (artifact_id)
join lineage.run_output o using (version_id)
where a.use_case = :'use_case' and a.kind = :'kind' and a.name = :'name' and v.purged_at is null
order by o.registered desc
limit 1;

-- emitter --
-- A run that came to its end, with who asked for it and the task of Airflow that it was.
select r.run_id, j.use_case, r.requested_by, r.dag_id, r.dag_run_id
from lineage.run r
join lineage.job j using (job_id)
where r.run_id = :'run'::uuid and r.state in ('succeeded', 'reused');

-- version_by_id --
-- One artifact version.
select v.version_id, a.use_case, a.kind, a.name, v.digest, v.uri, v.size_bytes, v.private, v.meta, v.created_at, v.purged_at
from lineage.artifact_version v
join lineage.artifact a using (artifact_id)
where v.version_id = :'version_id'::bigint;

-- versions_by_ref --
-- Artifact versions whose digest begins so.
select v.version_id, a.use_case, a.kind, a.name, v.digest, v.created_at
from lineage.artifact_version v
join lineage.artifact a using (artifact_id)
where v.digest like :'ref' || '%'
order by v.version_id;

-- live --
-- What is live for a use case.
select * from lineage.live where use_case = :'use_case' and alias = 'live';

-- failed_attempts --
-- How many attempts at a task's runs failed by themselves.
select count(*) as failures
from lineage.attempt a join lineage.run r using (run_id)
where a.state = 'failed' and r.dag_id = :'dag' and r.dag_run_id = :'dag_run' and r.task_id = :'task'
  and r.map_index = :'map_index'::int;
