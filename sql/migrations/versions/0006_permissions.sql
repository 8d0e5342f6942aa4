-- Who may begin and finish which job, and make which kinds of artifact; what is inserted without its times and logins.
set local role nightshift_owner;

-- permission: which login may begin and finish which job, and which kinds of artifact the job makes. What is not here, nobody
-- may do: a worker's login that could write another's kind could forge what another is to check.
create table lineage.permission (
    login text not null,
    job text not null,
    kinds text[] not null,
    primary key (login, job)
);
insert into lineage.permission (login, job, kinds) values
    ('pipeline', 'data.fetch', '{snapshot}'),
    ('pipeline', 'data.check', '{check_report, snapshot}'),
    ('pipeline', 'data.commit', '{dataset, corpus}'),
    ('pipeline', 'data.commit_documents', '{corpus}'),
    ('pipeline', 'data.card', '{card}'),
    ('pipeline', 'retrieval.plan', '{index_plan}'),
    ('pipeline', 'retrieval.embed', '{}'),
    ('pipeline', 'retrieval.build', '{index_generation}'),
    ('pipeline', 'retrieval.check', '{gate_report}'),
    ('pipeline', 'retrieval.swap', '{}'),
    ('pipeline', 'release.gate', '{gate_report}'),
    ('pipeline', 'governance.packet', '{packet}'),
    ('trainer', 'training.preflight', '{base_model}'),
    ('trainer', 'training.sft', '{adapter}'),
    ('trainer', 'training.dpo', '{adapter}'),
    ('evaluator', 'evaluation.evaluate', '{evaluation}');

-- permitted: the kinds that this login may make in this job. Raises where the job is none of its work.
create function lineage.permitted(p_job text) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_kinds text[];
begin
    select p.kinds into v_kinds from lineage.permission p where p.login = session_user and p.job = p_job;
    if v_kinds is null then
        raise exception 'the login % may not do the job %', session_user, coalesce(p_job, 'without a name') using errcode = 'NS030';
    end if;
    return v_kinds;
end
$$;

-- begin_run: opens a run, or a new attempt of one that has not finished. A run that finished is never overwritten:
-- asking for it again makes a new run which names the old one.
create or replace function lineage.begin_run(
    p_run uuid, p_use_case text, p_job text, p_orchestrator text, p_dag text, p_dag_run text, p_task text, p_map_index int,
    p_requested_by text, p_params jsonb, p_inputs jsonb, p_cache_key text, p_cache_parts jsonb, p_environment jsonb
) returns table (run_id uuid, fence bigint, previous_run_id uuid)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_run uuid := p_run;
    v_previous uuid;
    v_state text;
    v_fence bigint;
    v_job bigint;
begin
    perform lineage.permitted(p_job);
    insert into lineage.job (use_case, name) values (p_use_case, p_job) on conflict do nothing;
    select j.job_id into v_job from lineage.job j where j.use_case = p_use_case and j.name = p_job;
    loop
        insert into lineage.run as r (run_id, job_id, state, orchestrator, dag_id, dag_run_id, task_id, map_index,
                                      requested_by, params, cache_key, cache_parts, previous_run_id)
        values (v_run, v_job, 'running', p_orchestrator, p_dag, p_dag_run, p_task, p_map_index,
                p_requested_by, p_params, p_cache_key, p_cache_parts, v_previous)
        on conflict on constraint run_pkey do nothing;
        exit when found;
        select r.state into v_state from lineage.run r where r.run_id = v_run for update;
        if not exists (select from lineage.run r join lineage.attempt a on a.run_id = r.run_id and a.login = session_user
                       where r.run_id = v_run and r.job_id = v_job) then
            raise exception 'run % is another login''s, or of another job', v_run using errcode = 'NS030';
        end if;
        if v_state not in ('succeeded', 'reused') then
            update lineage.run r
            set state = 'running', ended_at = null, params = p_params, cache_key = p_cache_key, cache_parts = p_cache_parts
            where r.run_id = v_run;
            delete from lineage.run_input i where i.run_id = v_run;
            exit;
        end if;
        v_previous := v_run;
        v_run := md5('again:' || v_run::text)::uuid;
    end loop;
    update lineage.attempt a set state = 'superseded', ended_at = clock_timestamp()
    where a.run_id = v_run and a.state = 'running';
    select coalesce(max(a.fence), 0) + 1 into v_fence from lineage.attempt a where a.run_id = v_run;
    insert into lineage.attempt (run_id, fence, state, environment) values (v_run, v_fence, 'running', p_environment);
    insert into lineage.run_input (run_id, role, version_id)
    select v_run, i.role, i.version_id from jsonb_to_recordset(p_inputs) as i (role text, version_id bigint);
    return query select v_run, v_fence, v_previous;
end
$$;

-- hold_attempt: locks the run and refuses every attempt but the newest. Whatever a step writes, it writes after this
-- and in the same transaction.
create or replace function lineage.hold_attempt(p_run uuid, p_fence bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_state text;
    v_newest bigint;
begin
    select r.state into v_state from lineage.run r where r.run_id = p_run for update;
    select max(a.fence) into v_newest from lineage.attempt a where a.run_id = p_run;
    if v_state is null or v_newest is distinct from p_fence or v_state <> 'running' then
        raise exception 'attempt % of run % may not write: the newest is % and the run is %',
            p_fence, p_run, coalesce(v_newest::text, 'none'), coalesce(v_state, 'unknown')
            using errcode = 'NS001';
    end if;
    if not exists (select from lineage.attempt a where a.run_id = p_run and a.fence = p_fence and a.login = session_user) then
        raise exception 'attempt % of run % is not one of %', p_fence, p_run, session_user using errcode = 'NS030';
    end if;
end
$$;

create or replace function lineage.heartbeat(p_run uuid, p_fence bigint) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update lineage.attempt set heartbeat_at = clock_timestamp()
    where run_id = p_run and fence = p_fence and state = 'running' and login = session_user
$$;

-- finish_run: the outputs come into being in the transaction that marks success. They are of the kinds that the job makes; a
-- run that is reused was of the same job and key, and its work was done by a login whose work it is.
create or replace function lineage.finish_run(p_run uuid, p_fence bigint, p_outputs jsonb, p_facts jsonb, p_reused_from uuid)
returns table (role text, version_id bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_job lineage.job;
    v_kinds text[];
    v_wrong text;
begin
    perform lineage.hold_attempt(p_run, p_fence);
    select j.* into v_job from lineage.run r join lineage.job j using (job_id) where r.run_id = p_run;
    v_kinds := lineage.permitted(v_job.name);
    if p_reused_from is not null then
        if not exists (
            select from lineage.run old
            join lineage.run new on new.job_id = old.job_id and new.cache_key = old.cache_key
            join lineage.attempt a on a.run_id = old.run_id and a.state = 'succeeded' and a.login = session_user
            where old.run_id = p_reused_from and new.run_id = p_run and old.state = 'succeeded'
        ) then
            raise exception 'run % cannot answer for run %: it is not a finished run of the same job and key by %',
                p_reused_from, p_run, session_user using errcode = 'NS030';
        end if;
        insert into lineage.run_output (run_id, role, version_id, made_of)
        select p_run, o.role, o.version_id, o.made_of from lineage.run_output o where o.run_id = p_reused_from;
    else
        select string_agg(distinct coalesce(o ->> 'kind', 'nothing'), ', ') into v_wrong from jsonb_array_elements(p_outputs) o
        where not coalesce(o ->> 'kind' = any (v_kinds), false);
        if v_wrong is not null then
            raise exception 'the job % of the login % does not make: %', v_job.name, session_user, v_wrong using errcode = 'NS030';
        end if;
        insert into lineage.run_output (run_id, role, version_id, made_of)
        select p_run, o ->> 'role', lineage.register(v_job.use_case, o),
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

-- check_evaluation: an evaluation is of the run that made its artifact, and written by the login that did the work.
create or replace function eval.check_evaluation() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (
        select from lineage.run r
        join lineage.job j on j.job_id = r.job_id and j.name = 'evaluation.evaluate' and j.use_case = new.use_case
        join lineage.attempt a on a.run_id = r.run_id and a.login = session_user
        join lineage.run_output o on o.run_id = r.run_id and o.version_id = new.artifact_version_id
        where r.run_id = new.run_id
    ) then
        raise exception 'run % made no such evaluation of %, or not as the login %', new.run_id, new.use_case, session_user
            using errcode = 'NS030';
    end if;
    return new;
end
$$;

create trigger check_evaluation before insert on eval.evaluation
for each row execute function eval.check_evaluation();

grant select on lineage.permission to pipeline, trainer, evaluator, auditor, approver;
revoke insert on all tables in schema catalog from pipeline;
revoke insert on all tables in schema eval from pipeline, evaluator;
revoke insert on rag.acl_set, rag.embedding_cache, rag.principal from pipeline;
revoke insert on release.waiver from approver;
revoke insert on release.decision from pipeline;
-- What is inserted without a function is inserted without the columns that the database fills in by itself: nobody chooses
-- the time of his own row, or under whose login it was written.
do $$
declare
    v_grant record;
begin
    for v_grant in
        select w.login, c.table_schema, c.table_name, string_agg(quote_ident(c.column_name), ', ' order by c.ordinal_position) as columns
        from (values ('pipeline', 'catalog', null), ('pipeline', 'eval', 'comparison'), ('pipeline', 'rag', 'acl_set'),
                     ('pipeline', 'rag', 'embedding_cache'), ('pipeline', 'rag', 'principal'), ('evaluator', 'eval', null),
                     ('approver', 'release', 'waiver'), ('pipeline', 'release', 'decision')) w (login, table_schema, table_name)
        join information_schema.columns c on c.table_schema = w.table_schema and c.table_name = coalesce(w.table_name, c.table_name)
        join information_schema.tables t on t.table_schema = c.table_schema and t.table_name = c.table_name and t.table_type = 'BASE TABLE'
        where c.is_identity = 'NO' and coalesce(c.column_default, '') !~* 'clock_timestamp|session_user|now\(\)'
        group by w.login, c.table_schema, c.table_name
    loop
        execute format('grant insert (%s) on %I.%I to %I', v_grant.columns, v_grant.table_schema, v_grant.table_name, v_grant.login);
    end loop;
end
$$;

reset role;
