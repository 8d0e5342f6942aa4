-- An orderly stop ends an attempt as interrupted, which is no failure of it; lost attempts are swept in the order in which
-- runs are begun.
set local role nightshift_owner;

alter table lineage.run drop constraint run_state_check, add constraint run_state_check
    check (state in ('running', 'succeeded', 'reused', 'failed', 'interrupted', 'lost'));
alter table lineage.attempt drop constraint attempt_state_check, add constraint attempt_state_check
    check (state in ('running', 'succeeded', 'failed', 'interrupted', 'superseded', 'lost'));

drop function lineage.fail_run(uuid, bigint, text, text);
-- fail_run: records the end of an attempt: failed, or interrupted by somebody who stopped the machinery in good order. One
-- that was superseded changes nothing and is told so.
create function lineage.fail_run(p_run uuid, p_fence bigint, p_error_class text, p_error text, p_interrupted boolean)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_state text := case when p_interrupted then 'interrupted' else 'failed' end;
begin
    perform lineage.hold_attempt(p_run, p_fence);
    update lineage.attempt a set state = v_state, ended_at = clock_timestamp(), error_class = p_error_class, error = p_error
    where a.run_id = p_run and a.fence = p_fence;
    update lineage.run r set state = v_state, ended_at = clock_timestamp() where r.run_id = p_run;
    return true;
exception when sqlstate 'NS001' then
    return false;
end
$$;

-- sweep_lost: runs whose newest attempt stopped giving signs of life. It locks runs before their attempts, as begin_run
-- does, so that the two cannot wait for each other.
create or replace function lineage.sweep_lost(p_silence interval) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_lost int;
begin
    with silent as materialized (
        select r.run_id from lineage.run r
        where r.state = 'running'
          and exists (select from lineage.attempt a where a.run_id = r.run_id and a.state = 'running'
                      and a.heartbeat_at < clock_timestamp() - p_silence)
        order by r.run_id for update of r
    ), ended as (
        update lineage.attempt a set state = 'lost', ended_at = clock_timestamp()
        from silent where a.run_id = silent.run_id and a.state = 'running'
                      and a.heartbeat_at < clock_timestamp() - p_silence
        returning a.run_id
    ), swept as (
        update lineage.run r set state = 'lost', ended_at = clock_timestamp()
        from ended where r.run_id = ended.run_id and r.state = 'running' returning r.run_id
    )
    select count(*) into v_lost from swept;
    return v_lost;
end
$$;

create or replace view lineage.broken as
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

grant execute on function lineage.fail_run to pipeline, trainer, evaluator, approver;

reset role;
