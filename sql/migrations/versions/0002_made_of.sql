-- An output says which of its run's inputs it was made of, so that a base model that was checked beside a dataset does not
-- descend from it.
alter table lineage.run_output add column made_of text[];

create or replace function lineage.finish_run(p_run uuid, p_fence bigint, p_outputs jsonb, p_facts jsonb, p_reused_from uuid)
returns table (role text, version_id bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_use_case text;
begin
    perform lineage.hold_attempt(p_run, p_fence);
    select j.use_case into v_use_case from lineage.run r join lineage.job j using (job_id) where r.run_id = p_run;
    if p_reused_from is not null then
        insert into lineage.run_output (run_id, role, version_id, made_of)
        select p_run, o.role, o.version_id, o.made_of from lineage.run_output o where o.run_id = p_reused_from;
    else
        insert into lineage.run_output (run_id, role, version_id, made_of)
        select p_run, o ->> 'role', lineage.register(v_use_case, o),
               case when o -> 'made_of' <> 'null' then array(select jsonb_array_elements_text(o -> 'made_of')) end
        from jsonb_array_elements(p_outputs) o;
        if exists (select from lineage.run_output o cross join unnest(o.made_of) m (role)
                   where o.run_id = p_run and m.role not in (select i.role from lineage.run_input i where i.run_id = p_run)) then
            raise exception 'an output of run % is made of an input that the run does not have', p_run;
        end if;
    end if;
    update lineage.run r
    set state = case when p_reused_from is null then 'succeeded' else 'reused' end,
        reused_from = p_reused_from, facts = p_facts, ended_at = clock_timestamp()
    where r.run_id = p_run;
    update lineage.attempt a set state = 'succeeded', ended_at = clock_timestamp()
    where a.run_id = p_run and a.fence = p_fence;
    return query select o.role, o.version_id from lineage.run_output o where o.run_id = p_run order by o.role;
end
$$;

create or replace view lineage.edges as
select i.version_id as source, o.version_id as target, o.run_id, i.role as input_role, o.role as output_role
from lineage.run_input i
join lineage.run_output o on o.run_id = i.run_id and (o.made_of is null or i.role = any (o.made_of));

create or replace function lineage.ancestry(p_version bigint) returns table (version_id bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    with recursive up as (
        select p_version as version_id
        union
        select e.source from up join lineage.edges e on e.target = up.version_id
    )
    select up.version_id from up
$$;

create or replace function lineage.descendants(p_version bigint) returns table (version_id bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    with recursive down as (
        select p_version as version_id
        union
        select e.target from down join lineage.edges e on e.source = down.version_id
    )
    select down.version_id from down
$$;
