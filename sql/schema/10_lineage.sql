-- Lineage: which run made which artifact out of which, and what is live. Rows come in through functions alone: no role
-- may write these tables, so that a fenced-out attempt cannot record anything, by whichever code path.

create table lineage.job (
    job_id bigint generated always as identity primary key,
    use_case text not null,
    name text not null,
    unique (use_case, name)
);

create table lineage.run (
    run_id uuid primary key,
    job_id bigint not null references lineage.job,
    state text not null check (state in ('running', 'succeeded', 'reused', 'failed', 'interrupted', 'lost')),
    -- Where it was asked for: the scheduler's names, or the command line.
    orchestrator text not null check (orchestrator in ('airflow', 'cli')),
    dag_id text,
    dag_run_id text,
    task_id text,
    map_index int,
    requested_by text not null,
    params jsonb not null default '{}',
    -- The key is the digest of its parts; the parts stay, so that "why was this not reused?" has an answer.
    cache_key text not null,
    cache_parts jsonb not null,
    previous_run_id uuid references lineage.run, -- the finished run which this one does again
    reused_from uuid references lineage.run,
    facts jsonb not null default '{}', -- counts and measures, never text of rows
    started_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    check ((state = 'running') = (ended_at is null)),
    check ((state = 'reused') = (reused_from is not null))
);
create index run_by_key on lineage.run (cache_key) where state = 'succeeded';
create index run_by_job on lineage.run (job_id, started_at);
create index run_by_dag_run on lineage.run (dag_id, dag_run_id);

create table lineage.attempt (
    run_id uuid not null references lineage.run,
    fence bigint not null, -- 1, 2, …: only the highest of a run may write
    state text not null check (state in ('running', 'succeeded', 'failed', 'interrupted', 'superseded', 'lost')),
    login text not null default session_user,
    environment jsonb not null, -- host, process, threads, library versions, git commit
    started_at timestamptz not null default clock_timestamp(),
    heartbeat_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    error_class text,
    error text,
    primary key (run_id, fence)
);

create table lineage.artifact (
    artifact_id bigint generated always as identity primary key,
    use_case text not null,
    kind text not null check (kind in (
        'snapshot', 'check_report', 'dataset', 'corpus', 'card', 'base_model', 'adapter', 'merged_model',
        'index_plan', 'index_generation', 'evaluation', 'gate_report', 'packet', 'certificate', 'reference_log_probs')),
    name text not null,
    unique (use_case, kind, name)
);

create table lineage.artifact_version (
    version_id bigint generated always as identity primary key,
    artifact_id bigint not null references lineage.artifact,
    digest text not null check (digest ~ '^[0-9a-f]{64}$'),
    uri text, -- null: it stands in the database alone
    size_bytes bigint not null check (size_bytes >= 0),
    private boolean not null, -- holds text of examples, documents, prompts or answers: can be purged
    meta jsonb not null default '{}',
    created_at timestamptz not null default clock_timestamp(),
    purged_at timestamptz,
    unique (artifact_id, digest) -- the same content made twice is one version
);
create index artifact_version_by_digest on lineage.artifact_version (digest text_pattern_ops);

create table lineage.run_input (
    run_id uuid not null references lineage.run,
    role text not null,
    version_id bigint not null references lineage.artifact_version,
    primary key (run_id, role)
);
create index run_input_by_version on lineage.run_input (version_id);

create table lineage.run_output (
    run_id uuid not null references lineage.run,
    role text not null,
    version_id bigint not null references lineage.artifact_version,
    made_of text[], -- roles of the run's inputs; null: all of them
    registered bigint generated always as identity, -- in this order; clocks go back
    primary key (run_id, role)
);
create index run_output_by_version on lineage.run_output (version_id);

-- training_step: what a training measured at each step, written while it trains. Its digests and final figures stand in the
-- adapter; this is what a person looks at meanwhile. Losses are means per supervised token, in nats; NaN is kept.
create table lineage.training_step (
    run_id uuid not null references lineage.run,
    step int not null check (step >= 0), -- 0: before the first
    fence bigint not null, -- the attempt that wrote it: one that goes on from a checkpoint writes what stands in that again
    epoch float8,
    loss float8,
    learning_rate float8,
    gradient_norm float8,
    margin float8, -- of preferences: how much likelier the chosen side became than the rejected
    accuracy float8, -- of preferences: the share in which it did
    eval_loss float8, -- on the validation rows
    eval_margin float8,
    eval_accuracy float8,
    tokens_per_second float8,
    supervised_per_second float8,
    memory_mib int, -- the peak so far: of the GPU, or of the process
    at timestamptz not null default clock_timestamp(),
    primary key (run_id, step)
);

-- What is live, as a pair. A promotion, a rollback and an index swap each end one row and begin the next.
create table lineage.deployment (
    deployment_id bigint generated always as identity primary key,
    use_case text not null,
    alias text not null default 'live',
    model_version_id bigint references lineage.artifact_version, -- null until the first release
    index_version_id bigint references lineage.artifact_version,
    decision_id bigint not null,
    replaces bigint references lineage.deployment,
    promoted_by text not null,
    why text not null,
    login text not null default session_user,
    valid_from timestamptz not null default clock_timestamp(),
    valid_to timestamptz,
    check (model_version_id is not null or index_version_id is not null),
    check (valid_to >= valid_from)
);
create unique index one_live_deployment on lineage.deployment (use_case, alias) where valid_to is null;
create index deployment_by_model on lineage.deployment (model_version_id);
create index deployment_by_index on lineage.deployment (index_version_id);

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
    ('pipeline', 'data.erase', '{}'),
    ('pipeline', 'data.certify', '{certificate}'),
    ('pipeline', 'retrieval.plan', '{index_plan}'),
    ('pipeline', 'retrieval.embed', '{}'),
    ('pipeline', 'retrieval.build', '{index_generation}'),
    ('pipeline', 'retrieval.swap', '{}'),
    ('pipeline', 'governance.packet', '{packet}'),
    ('trainer', 'training.preflight', '{base_model}'),
    ('trainer', 'training.pretrain', '{adapter}'),
    ('trainer', 'training.sft', '{adapter}'),
    ('trainer', 'training.dpo', '{adapter, reference_log_probs}'),
    ('trainer', 'training.export', '{merged_model}'),
    ('evaluator', 'retrieval.check', '{gate_report}'),
    ('evaluator', 'evaluation.evaluate', '{evaluation}'),
    ('gatekeeper', 'release.gate', '{gate_report}'),
    ('approver', 'release.rollback', '{}');

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
create function lineage.begin_run(
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
create function lineage.hold_attempt(p_run uuid, p_fence bigint) returns void
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

create function lineage.heartbeat(p_run uuid, p_fence bigint) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update lineage.attempt set heartbeat_at = clock_timestamp()
    where run_id = p_run and fence = p_fence and state = 'running' and login = session_user
$$;

-- trains: whether a job trains on rows of a dataset version: what is asked of a model asks it of each such run.
create function lineage.trains(p_job text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
    select p_job in ('training.pretrain', 'training.sft', 'training.dpo')
$$;

-- record_steps: writes what an attempt measured; what was not measured this time stays as it was.
create function lineage.record_steps(p_run uuid, p_fence bigint, p_steps jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform lineage.hold_attempt(p_run, p_fence);
    if not exists (select from lineage.run r join lineage.job j using (job_id) where r.run_id = p_run and j.name like 'training.%') then
        raise exception 'run % is no training', p_run using errcode = 'NS030';
    end if;
    insert into lineage.training_step as t (
        run_id, step, fence, epoch, loss, learning_rate, gradient_norm, margin, accuracy, eval_loss, eval_margin, eval_accuracy,
        tokens_per_second, supervised_per_second, memory_mib)
    select p_run, s.step, p_fence, s.epoch, s.loss, s.learning_rate, s.gradient_norm, s.margin, s.accuracy, s.eval_loss,
           s.eval_margin, s.eval_accuracy, s.tokens_per_second, s.supervised_per_second, s.memory_mib
    from jsonb_to_recordset(p_steps) as s (
        step int, epoch float8, loss float8, learning_rate float8, gradient_norm float8, margin float8, accuracy float8,
        eval_loss float8, eval_margin float8, eval_accuracy float8, tokens_per_second float8, supervised_per_second float8,
        memory_mib int)
    on conflict (run_id, step) do update set
        fence = excluded.fence, epoch = coalesce(excluded.epoch, t.epoch), loss = coalesce(excluded.loss, t.loss),
        learning_rate = coalesce(excluded.learning_rate, t.learning_rate),
        gradient_norm = coalesce(excluded.gradient_norm, t.gradient_norm),
        margin = coalesce(excluded.margin, t.margin), accuracy = coalesce(excluded.accuracy, t.accuracy),
        eval_loss = coalesce(excluded.eval_loss, t.eval_loss), eval_margin = coalesce(excluded.eval_margin, t.eval_margin),
        eval_accuracy = coalesce(excluded.eval_accuracy, t.eval_accuracy),
        tokens_per_second = coalesce(excluded.tokens_per_second, t.tokens_per_second),
        supervised_per_second = coalesce(excluded.supervised_per_second, t.supervised_per_second),
        memory_mib = coalesce(excluded.memory_mib, t.memory_mib), at = clock_timestamp();
end
$$;

-- register: one version per artifact and content; returns its id, old or new.
create function lineage.register(p_use_case text, p_output jsonb) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_artifact bigint;
    v_version bigint;
begin
    insert into lineage.artifact (use_case, kind, name)
    values (p_use_case, p_output ->> 'kind', p_output ->> 'name') on conflict do nothing;
    select a.artifact_id into v_artifact from lineage.artifact a
    where a.use_case = p_use_case and a.kind = p_output ->> 'kind' and a.name = p_output ->> 'name';
    insert into lineage.artifact_version as v (artifact_id, digest, uri, size_bytes, private, meta)
    values (v_artifact, p_output ->> 'digest', p_output ->> 'uri', (p_output ->> 'size_bytes')::bigint,
            (p_output ->> 'private')::boolean, coalesce(p_output -> 'meta', '{}'))
    on conflict (artifact_id, digest) do nothing;
    -- A version that was purged and is made again stands again.
    update lineage.artifact_version v set purged_at = null, uri = p_output ->> 'uri'
    where v.artifact_id = v_artifact and v.digest = p_output ->> 'digest' and v.purged_at is not null;
    select v.version_id into v_version from lineage.artifact_version v
    where v.artifact_id = v_artifact and v.digest = p_output ->> 'digest';
    return v_version;
end
$$;

-- finish_run: the outputs come into being in the transaction that marks success. They are of the kinds that the job makes; a
-- run that is reused was of the same job and key, and its work was done by a login whose work it is.
create function lineage.finish_run(p_run uuid, p_fence bigint, p_outputs jsonb, p_facts jsonb, p_reused_from uuid)
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
create function lineage.sweep_lost(p_silence interval) returns int
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

-- edges: what went into what, by which run.
create view lineage.edges as
select i.version_id as source, o.version_id as target, o.run_id, i.role as input_role, o.role as output_role
from lineage.run_input i
join lineage.run_output o on o.run_id = i.run_id and (o.made_of is null or i.role = any (o.made_of));

-- ancestry / descendants: everything a version was made from, or went into. UNION on ids ends a diamond.
create function lineage.ancestry(p_version bigint) returns table (version_id bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    with recursive up as (
        select p_version as version_id
        union
        select e.source from up join lineage.edges e on e.target = up.version_id
    )
    select up.version_id from up
$$;

create function lineage.descendants(p_version bigint) returns table (version_id bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    with recursive down as (
        select p_version as version_id
        union
        select e.target from down join lineage.edges e on e.source = down.version_id
    )
    select down.version_id from down
$$;
