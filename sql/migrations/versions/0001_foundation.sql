-- Roles. The superuser runs this file and nothing else; every other object belongs to nightshift_owner, whom nobody
-- can log in as. Each kind of work has a login of its own. Roles belong to the whole server, so they may exist already.
do $$
declare
    name text;
begin
    if not exists (select from pg_roles where rolname = 'nightshift_owner') then
        create role nightshift_owner nologin;
    end if;
    foreach name in array array['pipeline', 'trainer', 'evaluator', 'retriever', 'reader', 'auditor', 'approver'] loop
        if not exists (select from pg_roles where rolname = name) then
            execute format('create role %I login nosuperuser nocreatedb nocreaterole nobypassrls noinherit', name);
        end if;
        execute format('grant connect on database %I to %I', current_database(), name);
        execute format('alter role %I in database %I set timezone to ''UTC''', name, current_database());
    end loop;
    -- Only those who are named may connect, and nobody may leave objects in the public schema.
    execute format('revoke all on database %I from public', current_database());
    execute format('grant temporary on database %I to pipeline', current_database());
end
$$;

revoke create on schema public from public;
create extension if not exists vector schema public;

create schema lineage authorization nightshift_owner;
create schema catalog authorization nightshift_owner;
create schema rag authorization nightshift_owner;
create schema eval authorization nightshift_owner;
create schema release authorization nightshift_owner;
create schema audit authorization nightshift_owner;

set local role nightshift_owner;
alter default privileges for role nightshift_owner revoke execute on functions from public;
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
    state text not null check (state in ('running', 'succeeded', 'reused', 'failed', 'lost')),
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
    state text not null check (state in ('running', 'succeeded', 'failed', 'superseded', 'lost')),
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
        'index_plan', 'index_generation', 'evaluation', 'gate_report', 'packet')),
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
    primary key (run_id, role)
);
create index run_output_by_version on lineage.run_output (version_id);

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
end
$$;

create function lineage.heartbeat(p_run uuid, p_fence bigint) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update lineage.attempt set heartbeat_at = clock_timestamp()
    where run_id = p_run and fence = p_fence and state = 'running'
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

-- finish_run: the outputs come into being in the transaction that marks success.
create function lineage.finish_run(p_run uuid, p_fence bigint, p_outputs jsonb, p_facts jsonb, p_reused_from uuid)
returns table (role text, version_id bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_use_case text;
begin
    perform lineage.hold_attempt(p_run, p_fence);
    select j.use_case into v_use_case from lineage.run r join lineage.job j using (job_id) where r.run_id = p_run;
    if p_reused_from is not null then
        insert into lineage.run_output (run_id, role, version_id)
        select p_run, o.role, o.version_id from lineage.run_output o where o.run_id = p_reused_from;
    else
        insert into lineage.run_output (run_id, role, version_id)
        select p_run, o ->> 'role', lineage.register(v_use_case, o) from jsonb_array_elements(p_outputs) o;
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

-- fail_run: records the end of an attempt. One that was superseded changes nothing and is told so.
create function lineage.fail_run(p_run uuid, p_fence bigint, p_error_class text, p_error text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform lineage.hold_attempt(p_run, p_fence);
    update lineage.attempt a set state = 'failed', ended_at = clock_timestamp(), error_class = p_error_class, error = p_error
    where a.run_id = p_run and a.fence = p_fence;
    update lineage.run r set state = 'failed', ended_at = clock_timestamp() where r.run_id = p_run;
    return true;
exception when sqlstate 'NS001' then
    return false;
end
$$;

-- sweep_lost: runs whose newest attempt stopped giving signs of life.
create function lineage.sweep_lost(p_silence interval) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_lost int;
begin
    with silent as (
        update lineage.attempt a set state = 'lost', ended_at = clock_timestamp()
        where a.state = 'running' and a.heartbeat_at < clock_timestamp() - p_silence
        returning a.run_id
    ), swept as (
        update lineage.run r set state = 'lost', ended_at = clock_timestamp()
        from silent where r.run_id = silent.run_id and r.state = 'running' returning r.run_id
    )
    select count(*) into v_lost from swept;
    return v_lost;
end
$$;

-- ancestry / descendants: everything a version was made from, or went into. UNION on ids ends a diamond.
create function lineage.ancestry(p_version bigint) returns table (version_id bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    with recursive up as (
        select p_version as version_id
        union
        select i.version_id from up
        join lineage.run_output o on o.version_id = up.version_id
        join lineage.run_input i on i.run_id = o.run_id
    )
    select up.version_id from up
$$;

create function lineage.descendants(p_version bigint) returns table (version_id bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    with recursive down as (
        select p_version as version_id
        union
        select o.version_id from down
        join lineage.run_input i on i.version_id = down.version_id
        join lineage.run_output o on o.run_id = i.run_id
    )
    select down.version_id from down
$$;
-- Catalog: documents, examples and the versions made of them. Text stands here and in registered private artifacts only,
-- so that an erasure has two places to go to.

create table catalog.dataset (
    dataset_id bigint generated always as identity primary key,
    use_case text not null,
    kind text not null check (kind in ('examples', 'documents')),
    unique (use_case, kind)
);

-- A version is a number; what it holds are the members whose interval contains the number. A version costs what changed.
create table catalog.dataset_version (
    dataset_id bigint not null references catalog.dataset,
    version int not null check (version > 0),
    digest text not null,
    artifact_version_id bigint not null references lineage.artifact_version,
    counts jsonb not null, -- members by split, kind or classification
    committed_at timestamptz not null default clock_timestamp(),
    primary key (dataset_id, version)
);

create table catalog.document (
    document_id bigint generated always as identity primary key,
    use_case text not null,
    document_key text not null, -- the id in the source
    unique (use_case, document_key)
);

create table catalog.document_version (
    document_version_id bigint generated always as identity primary key,
    document_id bigint not null references catalog.document,
    digest text not null, -- of text and metadata
    text_digest text not null, -- of the text alone: equal text needs no new embedding
    title text not null,
    body text, -- null once erased
    tenant text not null,
    classification text not null check (classification in ('public', 'internal', 'confidential', 'restricted')),
    groups text[] not null check (cardinality(groups) > 0),
    owner text not null,
    source text,
    status text not null check (status in ('approved', 'withdrawn')),
    fresh_until date,
    retain_until date,
    first_seen_at timestamptz not null default clock_timestamp(),
    unique (document_id, digest)
);

create table catalog.document_member (
    dataset_id bigint not null references catalog.dataset,
    document_version_id bigint not null references catalog.document_version,
    added_in int not null,
    removed_in int check (removed_in > added_in),
    primary key (dataset_id, document_version_id, added_in)
);
create unique index document_member_now on catalog.document_member (dataset_id, document_version_id) where removed_in is null;

create table catalog.example (
    use_case text not null,
    digest text not null,
    kind text not null check (kind in ('sft', 'preference')),
    split text not null check (split in ('train', 'validation')), -- test rows stand in locked_example
    content jsonb, -- null once erased
    subject text, -- the person a row is about, if any
    documents text[] not null default '{}', -- keys of the documents a row speaks of
    source text not null,
    first_seen_at timestamptz not null default clock_timestamp(),
    primary key (use_case, digest)
);
create index example_by_subject on catalog.example (use_case, subject) where subject is not null;

-- The rows of the test split, which the trainer's role cannot read.
create table catalog.locked_example (
    use_case text not null,
    digest text not null,
    kind text not null check (kind in ('sft', 'preference')),
    split text not null default 'test' check (split = 'test'),
    content jsonb,
    subject text,
    documents text[] not null default '{}',
    source text not null,
    first_seen_at timestamptz not null default clock_timestamp(),
    primary key (use_case, digest)
);
create index locked_example_by_subject on catalog.locked_example (use_case, subject) where subject is not null;

create table catalog.example_member (
    dataset_id bigint not null references catalog.dataset,
    example_digest text not null,
    split text not null check (split in ('train', 'validation', 'test')),
    added_in int not null,
    removed_in int check (removed_in > added_in),
    primary key (dataset_id, example_digest, added_in)
);
create unique index example_member_now on catalog.example_member (dataset_id, example_digest) where removed_in is null;

-- The split of a prompt is fixed when it is first seen, and rows that share a prompt share it: no later version may
-- move a row from test to train.
create table catalog.split_assignment (
    use_case text not null,
    group_digest text not null,
    split text not null check (split in ('train', 'validation', 'test')),
    assigned_at timestamptz not null default clock_timestamp(),
    primary key (use_case, group_digest)
);

-- What the checks found: places and rules, never the text of a row.
create table catalog.finding (
    finding_id bigint generated always as identity primary key,
    use_case text not null,
    run_id uuid not null references lineage.run,
    file text not null,
    line int,
    rule text not null,
    severity text not null check (severity in ('rejected', 'warning')),
    detail text not null,
    digest text
);
create index finding_by_run on catalog.finding (run_id);

-- The data steward's answers to findings. A correction is a new row.
create table catalog.steward_decision (
    steward_decision_id bigint generated always as identity primary key,
    finding_id bigint not null references catalog.finding,
    decision text not null check (decision in ('accept', 'reject')),
    person text not null,
    reason text not null,
    decided_at timestamptz not null default clock_timestamp()
);

-- What was erased must not come back, and the list of it must not be a list of what it was: HMACs, under a key that
-- stands outside the database.
create table catalog.tombstone (
    hmac text primary key check (hmac ~ '^[0-9a-f]{64}$'),
    use_case text not null,
    kind text not null check (kind in ('example', 'document')),
    reason text not null,
    buried_at timestamptz not null default clock_timestamp()
);

-- members: the members of a dataset at a version.
create function catalog.example_members(p_dataset bigint, p_version int)
returns table (example_digest text, split text)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
    select m.example_digest, m.split from catalog.example_member m
    where m.dataset_id = p_dataset and m.added_in <= p_version and (m.removed_in is null or m.removed_in > p_version)
$$;

create function catalog.document_members(p_dataset bigint, p_version int)
returns table (document_version_id bigint)
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
    select m.document_version_id from catalog.document_member m
    where m.dataset_id = p_dataset and m.added_in <= p_version and (m.removed_in is null or m.removed_in > p_version)
$$;
-- Retrieval. Chunks stand in one partition per generation and, below it, one per tenant. Callers hold a token, not a
-- claim; the function resolves what the token may see, searches, and writes down what it returned.

create table rag.principal (
    use_case text not null,
    name text not null,
    tenant text not null,
    groups text[] not null,
    clearance text not null check (clearance in ('public', 'internal', 'confidential', 'restricted')),
    primary key (use_case, name)
);

-- What the gateway issues. The caller knows the token; the table knows its digest. A session keeps the rights that its
-- principal had when it was opened, and lives for minutes. A clearance that nobody knows sees nothing.
create table rag.session (
    token_digest bytea primary key,
    use_case text not null,
    principal text not null,
    tenant text not null,
    groups text[] not null,
    clearance text not null,
    expires_at timestamptz not null
);
create index session_by_expiry on rag.session (expires_at);

-- One row per distinct right to read, so that a change of rights touches one row and no chunk.
create table rag.acl_set (
    acl_id int generated always as identity primary key,
    use_case text not null,
    tenant text not null,
    classification text not null check (classification in ('public', 'internal', 'confidential', 'restricted')),
    groups text[] not null,
    unique (use_case, tenant, classification, groups)
);

create table rag.embedding_cache (
    text_digest text not null, -- of the chunk's text under its chunker
    embedder text not null, -- digest of the embedder's files and settings
    embedding halfvec(384) not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (text_digest, embedder)
);

create table rag.generation (
    generation_id int generated always as identity primary key,
    use_case text not null,
    state text not null check (state in ('building', 'attached', 'live', 'retired', 'dropped')),
    embedder text not null,
    chunker jsonb not null,
    tenants text[] not null,
    digest text, -- of the manifest, once attached
    artifact_version_id bigint references lineage.artifact_version,
    corpus_version_id bigint references lineage.artifact_version, -- the newest corpus that it is the index of
    chunks bigint,
    gates jsonb,
    tombstone_mark bigint not null default 0, -- withdrawals up to here were known when it was begun
    created_at timestamptz not null default clock_timestamp(),
    attached_at timestamptz
);
-- The same content stands once: who names an artifact version names one generation.
create unique index generation_by_artifact on rag.generation (use_case, artifact_version_id)
    where state in ('attached', 'live', 'retired');

create table rag.chunk (
    generation_id int not null,
    tenant text not null,
    chunk_id bigint not null, -- within its generation
    document_key text not null,
    document_version_id bigint not null,
    ordinal int not null,
    acl_id int not null,
    status smallint not null check (status in (1, 2)), -- 1 approved, 2 withdrawn; not indexed, so that a withdrawal is a HOT update
    expires_at timestamptz not null,
    text_digest text not null,
    body text not null,
    embedding halfvec(384) not null
) partition by list (generation_id);
alter table rag.chunk enable row level security;
alter table rag.chunk force row level security;

-- Withdrawals in order. One counts for every version of its document that had been seen by then; a document comes back
-- by a new version alone.
create table rag.withdrawal (
    seq bigint generated always as identity primary key,
    use_case text not null,
    document_key text not null,
    reason text not null,
    at timestamptz not null default clock_timestamp()
);
create index withdrawal_by_document on rag.withdrawal (use_case, document_key);

create table rag.retrieval_audit (
    audit_id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    use_case text,
    principal text,
    tenant text,
    query_digest text,
    deployment_id bigint,
    generation_id int,
    route text not null check (route in ('exact', 'hnsw', 'empty', 'refused')),
    visible int not null,
    acl_ids int[] not null,
    chunk_ids bigint[] not null,
    reason text
);

create function rag.rank(p_classification text) returns int
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select array_position(array['public', 'internal', 'confidential', 'restricted'], p_classification)
$$;

-- acl_ids: what a tenant's caller with these groups and this clearance may read. Public documents are readable by the
-- whole tenant; everything else needs a shared group and enough clearance. Another tenant's documents never match.
create function rag.acl_ids(p_use_case text, p_tenant text, p_groups text[], p_clearance text) returns int[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce(array_agg(a.acl_id order by a.acl_id), '{}') from rag.acl_set a
    where a.use_case = p_use_case and a.tenant = p_tenant
      and rag.rank(a.classification) <= rag.rank(p_clearance)
      and (a.classification = 'public' or a.groups && p_groups)
$$;

-- token_tenant / token_acl_ids: what the token in the setting nightshift.token may see. For the policy below, which is
-- evaluated with the rights of whoever asks: the token cannot be made up, so the setting may be anyone's to set.
create function rag.token_tenant() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select s.tenant from rag.session s
    where s.token_digest = sha256(convert_to(current_setting('nightshift.token', true), 'UTF8')) and s.expires_at > now()
$$;

create function rag.token_acl_ids() returns int[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select rag.acl_ids(s.use_case, s.tenant, s.groups, s.clearance) from rag.session s
    where s.token_digest = sha256(convert_to(current_setting('nightshift.token', true), 'UTF8')) and s.expires_at > now()
$$;

-- The second wall: whoever was granted the table by mistake sees what his token may see, and without one nothing.
create policy chunk_visible on rag.chunk for select using (
    tenant = (select rag.token_tenant()) and acl_id = any ((select rag.token_acl_ids())::int[])
    and status = 1 and expires_at > now()
);
create policy chunk_maintained on rag.chunk to nightshift_owner using (true) with check (true);

-- issue: writes a session and returns its token. For the two functions below alone.
create function rag.issue(p_use_case text, p_principal text, p_tenant text, p_groups text[], p_clearance text, p_lifetime interval)
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_token text := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
begin
    insert into rag.session (token_digest, use_case, principal, tenant, groups, clearance, expires_at)
    values (sha256(convert_to(v_token, 'UTF8')), p_use_case, p_principal, p_tenant, p_groups, p_clearance,
            clock_timestamp() + p_lifetime);
    return v_token;
end
$$;

-- open_session: a token for a principal that the use case names. The gateway's to call, not the caller's.
create function rag.open_session(p_use_case text, p_principal text, p_lifetime interval default interval '10 minutes')
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_principal rag.principal;
begin
    select * into v_principal from rag.principal p where p.use_case = p_use_case and p.name = p_principal;
    if not found then
        raise exception 'use case % has no principal %', p_use_case, p_principal using errcode = 'NS010';
    end if;
    return rag.issue(p_use_case, p_principal, v_principal.tenant, v_principal.groups, v_principal.clearance, p_lifetime);
end
$$;

-- open_session_as: a token for a caller that nobody named, for the leak test alone. Its searches are in the audit under
-- the name "leak test".
create function rag.open_session_as(p_use_case text, p_tenant text, p_groups text[], p_clearance text) returns text
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select rag.issue(p_use_case, 'leak test', p_tenant, p_groups, p_clearance, interval '10 minutes')
$$;

create function rag.prune_sessions() returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_sessions int;
begin
    delete from rag.session s where s.expires_at < clock_timestamp();
    get diagnostics v_sessions = row_count;
    return v_sessions;
end
$$;

-- nearest_exact / nearest_hnsw: the ids of the k nearest chunks of one tenant's partition, the nearest first. Exact by
-- right to read up to some thousands of visible chunks (materialized, or the planner takes the graph all the same); above,
-- the graph, scanned on until k visible ones are found.
create function rag.nearest_exact(p_part text, p_acl int[], p_embedding halfvec, p_k int) returns bigint[]
language plpgsql stable security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_chunks bigint[];
begin
    execute format(
        'with seen as materialized (
             select c.chunk_id, c.embedding <#> $2 as distance from rag.%I c
             where c.acl_id = any ($1) and c.status = 1 and c.expires_at > clock_timestamp())
         select coalesce(array_agg(n.chunk_id order by n.distance, n.chunk_id), ''{}'')
         from (select * from seen order by distance, chunk_id limit $3) n', p_part)
    into v_chunks using p_acl, p_embedding, p_k;
    return v_chunks;
end
$$;

create function rag.nearest_hnsw(p_part text, p_acl int[], p_embedding halfvec, p_k int) returns bigint[]
language plpgsql stable security definer set search_path = pg_catalog, public, pg_temp
set hnsw.iterative_scan = 'relaxed_order' set hnsw.ef_search = '100' set enable_seqscan = off set enable_sort = off as $$
declare
    v_chunks bigint[];
begin
    execute format(
        'select coalesce(array_agg(n.chunk_id order by n.distance, n.chunk_id), ''{}'') from (
             select c.chunk_id, c.embedding <#> $2 as distance from rag.%I c
             where c.acl_id = any ($1) and c.status = 1 and c.expires_at > clock_timestamp()
             order by c.embedding <#> $2 limit $3) n', p_part)
    into v_chunks using p_acl, p_embedding, p_k;
    return v_chunks;
end
$$;

-- search_generation: the k nearest chunks of one generation for a token. An unknown or expired token is answered with
-- nothing and written down: an exception would roll its own audit row back. The settings nightshift.route and
-- nightshift.audit_id tell the session what happened, also where no row comes back.
-- It names the tenant's own partition: a session that holds a lock on rag.chunk since before a swap would not see there
-- the partition that the new deployment names, and find nothing.
create function rag.search_generation(p_token text, p_generation int, p_embedding halfvec, p_text text, p_k int, p_deployment bigint)
returns table (document_key text, document_version_id bigint, chunk_id bigint, score real, body text, route text, audit_id bigint)
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_session rag.session;
    v_generation rag.generation;
    v_part text;
    v_k int := greatest(least(p_k, 100), 0);
    v_acl int[] := '{}';
    v_visible int := 0;
    v_route text;
    v_reason text;
    v_chunks bigint[] := '{}';
    v_audit bigint;
begin
    select * into v_session from rag.session s where s.token_digest = sha256(convert_to(p_token, 'UTF8'));
    if v_session.use_case is null or v_session.expires_at < clock_timestamp() then
        v_route := 'refused';
        v_reason := case when v_session.use_case is null then 'unknown token' else 'expired token' end;
    else
        select * into v_generation from rag.generation g
        where g.generation_id = p_generation and g.use_case = v_session.use_case and g.state in ('attached', 'live', 'retired');
        v_part := format('chunk_g%s_t%s', p_generation, array_position(v_generation.tenants, v_session.tenant));
        v_acl := rag.acl_ids(v_session.use_case, v_session.tenant, v_session.groups, v_session.clearance);
        v_route := 'empty';
        if v_generation.generation_id is null then
            v_reason := 'no such index generation';
        elsif v_session.tenant = any (v_generation.tenants) then
            execute format('select count(*) from rag.%I c where c.acl_id = any ($1) and c.status = 1'
                           ' and c.expires_at > clock_timestamp()', v_part) into v_visible using v_acl;
        end if;
        if v_visible > 3000 and to_regclass(format('rag.%I', v_part || '_hnsw')) is not null then
            v_route := 'hnsw';
            v_chunks := rag.nearest_hnsw(v_part, v_acl, p_embedding, v_k);
        end if;
        -- A graph that lost its way is no excuse for a short answer.
        if v_visible > 0 and (v_route = 'empty' or cardinality(v_chunks) < least(v_k, v_visible)) then
            v_route := 'exact';
            v_chunks := rag.nearest_exact(v_part, v_acl, p_embedding, v_k);
        end if;
    end if;
    insert into rag.retrieval_audit (use_case, principal, tenant, query_digest, deployment_id, generation_id, route, visible,
                                     acl_ids, chunk_ids, reason)
    values (v_session.use_case, v_session.principal, v_session.tenant, encode(sha256(convert_to(p_text, 'UTF8')), 'hex'),
            p_deployment, p_generation, v_route, v_visible, v_acl, v_chunks, v_reason)
    returning retrieval_audit.audit_id into v_audit;
    perform set_config('nightshift.route', v_route, false), set_config('nightshift.audit_id', v_audit::text, false);
    if cardinality(v_chunks) > 0 then
        return query execute format(
            'select c.document_key, c.document_version_id, c.chunk_id, (-(c.embedding <#> $2))::real, c.body, $3, $4
             from unnest($1) with ordinality as hit (id, place) join rag.%I c on c.chunk_id = hit.id
             order by hit.place', v_part) using v_chunks, p_embedding, v_route, v_audit;
    end if;
end
$$;

-- search: over the index that is live for the token's use case.
create function rag.search(p_token text, p_embedding halfvec, p_text text, p_k int)
returns table (document_key text, document_version_id bigint, chunk_id bigint, score real, body text, route text, audit_id bigint)
language sql security definer set search_path = pg_catalog, public, pg_temp as $$
    select s.* from (select 1) one
    left join rag.session t on t.token_digest = sha256(convert_to(p_token, 'UTF8'))
    left join lineage.deployment d on d.use_case = t.use_case and d.alias = 'live' and d.valid_to is null
    left join rag.generation g on g.artifact_version_id = d.index_version_id and g.use_case = d.use_case
                              and g.state in ('attached', 'live', 'retired')
    cross join lateral rag.search_generation(p_token, g.generation_id, p_embedding, p_text, p_k, d.deployment_id) s
$$;

-- create_version: a generation and one staging table per tenant, which the builder alone may COPY into. (COPY into a
-- table with forced row-level security is refused by Postgres: staging has none, and no other role can read it.)
-- The lock makes every withdrawal up to the mark committed, so that a builder that reads them afterwards sees them all.
create function rag.create_version(p_use_case text, p_embedder text, p_chunker jsonb, p_tenants text[])
returns table (generation_id int, tenant text, staging regclass)
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_generation int;
    v_place bigint;
    v_tenant text;
    v_stage text;
begin
    perform pg_advisory_xact_lock(hashtextextended('rag.swap/' || p_use_case, 0));
    insert into rag.generation (use_case, state, embedder, chunker, tenants, tombstone_mark)
    values (p_use_case, 'building', p_embedder, p_chunker, p_tenants,
            coalesce((select max(w.seq) from rag.withdrawal w where w.use_case = p_use_case), 0))
    returning rag.generation.generation_id into v_generation;
    for v_place, v_tenant in select t.place, t.name from unnest(p_tenants) with ordinality as t (name, place) loop
        v_stage := format('stage_g%s_t%s', v_generation, v_place);
        execute format('create table rag.%I (like rag.chunk including constraints)', v_stage);
        -- They prove the partition's bounds, so that attaching it reads no row.
        execute format('alter table rag.%I add constraint in_generation check (generation_id = %s)', v_stage, v_generation);
        execute format('alter table rag.%I add constraint in_tenant check (tenant = %L)', v_stage, v_tenant);
        execute format('grant insert on rag.%I to pipeline', v_stage);
        return query select v_generation, v_tenant, format('rag.%I', v_stage)::regclass;
    end loop;
    if cardinality(p_tenants) = 0 then -- an index of nothing is one, too
        return query select v_generation, null::text, null::regclass;
    end if;
end
$$;

-- seal_version: ends the loading: takes the builder's grant away and makes the indexes, while nobody reads the tables.
create function rag.seal_version(p_generation int) returns void
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set maintenance_work_mem = '512MB' as $$
declare
    v_generation rag.generation;
    v_place bigint;
    v_stage text;
    v_chunks bigint;
begin
    select * into v_generation from rag.generation g where g.generation_id = p_generation for update;
    if v_generation.state is distinct from 'building' then
        raise exception 'index generation % is %, not building', p_generation, coalesce(v_generation.state, 'unknown')
            using errcode = 'NS011';
    end if;
    for v_place in 1 .. cardinality(v_generation.tenants) loop
        v_stage := format('stage_g%s_t%s', p_generation, v_place);
        execute format('revoke all on rag.%I from pipeline', v_stage);
        execute format('alter table rag.%I add primary key (chunk_id)', v_stage);
        execute format('create index on rag.%I (acl_id)', v_stage);
        execute format('create index on rag.%I (document_key)', v_stage);
        execute format('select count(*) from rag.%I', v_stage) into v_chunks;
        -- Below, scanning what a caller may see is exact and faster. m and ef_construction: 16 and 64 left queries
        -- without any right answer on clustered vectors.
        if v_chunks > 5000 then
            execute format('create index %I on rag.%I using hnsw (embedding halfvec_ip_ops) with (m = 24, ef_construction = 128)',
                           format('chunk_g%s_t%s_hnsw', p_generation, v_place), v_stage);
        end if;
        execute format('analyze rag.%I', v_stage);
    end loop;
end
$$;

-- shut: the second wall on one table: forced row-level security that lets nobody but the owner through.
create function rag.shut(p_table text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    execute format('alter table rag.%I enable row level security', p_table);
    execute format('alter table rag.%I force row level security', p_table);
    execute format('create policy chunk_maintained on rag.%I to nightshift_owner using (true) with check (true)', p_table);
end
$$;

-- replay: applies the withdrawals that came in while a generation was being built. Under the lock that withdraw holds
-- shared, so that none slips between the replay and the end of the transaction.
create function rag.replay(p_generation int) returns int
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_use_case text;
    v_chunks int;
begin
    select g.use_case into v_use_case from rag.generation g where g.generation_id = p_generation;
    perform pg_advisory_xact_lock(hashtextextended('rag.swap/' || v_use_case, 0));
    update rag.chunk c set status = 2
    from catalog.document_version v
    where c.generation_id = p_generation and c.status = 1 and v.document_version_id = c.document_version_id
      and exists (select from rag.withdrawal w
                  where w.use_case = v_use_case and w.document_key = c.document_key and w.at >= v.first_seen_at);
    get diagnostics v_chunks = row_count;
    return v_chunks;
end
$$;

-- attach: takes the sealed staging tables over as partitions. ATTACH (unlike CREATE … PARTITION OF) lets readers of the
-- parent go on. Returns how many chunks the generation holds.
create function rag.attach(p_generation int, p_digest text, p_artifact_version bigint, p_corpus_version bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_generation rag.generation;
    v_root text := format('chunk_g%s', p_generation);
    v_place bigint;
    v_tenant text;
    v_part text;
    v_chunks bigint;
begin
    select * into v_generation from rag.generation g where g.generation_id = p_generation for update;
    if v_generation.state is distinct from 'building' then
        raise exception 'index generation % is %, not building', p_generation, coalesce(v_generation.state, 'unknown')
            using errcode = 'NS011';
    end if;
    execute format('create table rag.%I (like rag.chunk including constraints) partition by list (tenant)', v_root);
    execute format('alter table rag.%I add constraint in_generation check (generation_id = %s)', v_root, p_generation);
    perform rag.shut(v_root);
    for v_place, v_tenant in select t.place, t.name from unnest(v_generation.tenants) with ordinality as t (name, place) loop
        v_part := format('%s_t%s', v_root, v_place);
        if has_table_privilege('pipeline', format('rag.%I', format('stage_g%s_t%s', p_generation, v_place)), 'insert') then
            raise exception 'index generation % was not sealed', p_generation using errcode = 'NS011';
        end if;
        execute format('alter table rag.%I rename to %I', format('stage_g%s_t%s', p_generation, v_place), v_part);
        perform rag.shut(v_part);
        execute format('alter table rag.%I attach partition rag.%I for values in (%L)', v_root, v_part, v_tenant);
    end loop;
    execute format('alter table rag.chunk attach partition rag.%I for values in (%s)', v_root, p_generation);
    select count(*) into v_chunks from rag.chunk c where c.generation_id = p_generation;
    -- A generation of this content that lost its partition gives its place, also where it was live.
    update rag.generation g set state = 'dropped'
    where g.use_case = v_generation.use_case and g.artifact_version_id = p_artifact_version
      and g.state in ('attached', 'live', 'retired') and not rag.standing(g.generation_id);
    update rag.generation g
    set state = case when exists (select from lineage.deployment d
                                  where d.use_case = g.use_case and d.alias = 'live' and d.valid_to is null
                                    and d.index_version_id = p_artifact_version) then 'live' else 'attached' end,
        digest = p_digest, artifact_version_id = p_artifact_version, corpus_version_id = p_corpus_version,
        chunks = v_chunks, attached_at = clock_timestamp()
    where g.generation_id = p_generation;
    perform rag.replay(p_generation);
    return v_chunks;
end
$$;

-- adopt: a generation that stands already is the index of a newer corpus, too.
create function rag.adopt(p_generation int, p_corpus_version bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update rag.generation g set corpus_version_id = p_corpus_version
    where g.generation_id = p_generation and g.state in ('attached', 'live', 'retired');
    if not found or to_regclass(format('rag.chunk_g%s', p_generation)) is null then
        raise exception 'index generation % does not stand any more', p_generation using errcode = 'NS011';
    end if;
end
$$;

-- standing: whether a generation can be searched: its state says so, and its partition is there.
create function rag.standing(p_generation int) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select exists (
        select from rag.generation g
        join pg_inherits i on i.inhparent = 'rag.chunk'::regclass
                          and i.inhrelid = to_regclass(format('rag.chunk_g%s', p_generation))
        where g.generation_id = p_generation and g.state in ('attached', 'live', 'retired'))
$$;

-- contents: what a generation holds of each document, by ids and counts.
create function rag.contents(p_generation int)
returns table (document_key text, document_version_id bigint, tenant text, acl_id int, status smallint, expires_at timestamptz, chunks bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select c.document_key, c.document_version_id, c.tenant, c.acl_id, c.status, c.expires_at, count(*)
    from rag.chunk c where c.generation_id = p_generation
    group by c.document_key, c.document_version_id, c.tenant, c.acl_id, c.status, c.expires_at
$$;

-- text_digests: the chunks of a generation by digest.
create function rag.text_digests(p_generation int) returns table (text_digest text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select distinct c.text_digest from rag.chunk c where c.generation_id = p_generation
$$;

-- withdraw: takes effect in every generation at commit, whichever is live.
create function rag.withdraw(p_use_case text, p_document_key text, p_reason text) returns int
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_chunks int;
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('rag.swap/' || p_use_case, 0));
    insert into rag.withdrawal (use_case, document_key, reason) values (p_use_case, p_document_key, p_reason);
    update rag.chunk c set status = 2
    where c.generation_id in (select g.generation_id from rag.generation g where g.use_case = p_use_case)
      and c.document_key = p_document_key and c.status = 1;
    get diagnostics v_chunks = row_count;
    return v_chunks;
end
$$;

-- erase: withdraws a document and deletes its chunks from every generation, with the embeddings that no other document
-- shares. Returns how many of each went.
create function rag.erase(p_use_case text, p_document_key text, p_reason text) returns table (chunks bigint, embeddings bigint)
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_digests text[];
begin
    perform rag.withdraw(p_use_case, p_document_key, p_reason);
    with gone as (
        delete from rag.chunk c
        where c.generation_id in (select g.generation_id from rag.generation g where g.use_case = p_use_case)
          and c.document_key = p_document_key
        returning c.text_digest
    )
    select count(*), array_agg(distinct g.text_digest) into chunks, v_digests from gone g;
    delete from rag.embedding_cache e
    where e.text_digest = any (v_digests) and not exists (select from rag.chunk c where c.text_digest = e.text_digest);
    get diagnostics embeddings = row_count;
    return next;
end
$$;

-- swap: replays, then makes the generation live through promote. In one transaction.
create function rag.swap(p_generation int, p_expected bigint, p_decision bigint, p_by text, p_why text) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_generation rag.generation;
    v_model bigint;
begin
    perform rag.replay(p_generation);
    select * into v_generation from rag.generation g where g.generation_id = p_generation for update;
    if v_generation.state is null or v_generation.state not in ('attached', 'retired') or not rag.standing(p_generation) then
        raise exception 'index generation % is %, not attached', p_generation, coalesce(v_generation.state, 'unknown')
            using errcode = 'NS011';
    end if;
    select d.model_version_id into v_model from lineage.deployment d where d.deployment_id = p_expected;
    return lineage.promote(v_generation.use_case, 'live', v_model, v_generation.artifact_version_id, p_expected, p_decision, p_by, p_why);
end
$$;

-- follow_deployment: the state of a generation follows what is live, whether a swap, a release or a rollback said so.
create function rag.follow_deployment() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if new.alias = 'live' and new.valid_to is null then
        update rag.generation g set state = 'retired'
        where g.use_case = new.use_case and g.state = 'live' and g.artifact_version_id is distinct from new.index_version_id;
        update rag.generation g set state = 'live'
        where g.use_case = new.use_case and g.state in ('attached', 'retired') and g.artifact_version_id = new.index_version_id;
    end if;
    return null;
end
$$;
create trigger followed_by_generation after insert on lineage.deployment
for each row execute function rag.follow_deployment();

-- drop_version: for a generation that no live deployment names. It waits for readers only so long: a reader who came
-- later would wait behind it.
create function rag.drop_version(p_generation int) returns void
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '500ms' as $$
declare
    v_generation rag.generation;
    v_place bigint;
begin
    select * into v_generation from rag.generation g where g.generation_id = p_generation for update;
    if exists (select from lineage.deployment d where d.index_version_id = v_generation.artifact_version_id
               and d.use_case = v_generation.use_case and d.valid_to is null) then
        raise exception 'index generation % is live', p_generation using errcode = 'NS011';
    end if;
    if v_generation.state = 'building' then
        for v_place in 1 .. cardinality(v_generation.tenants) loop
            execute format('drop table if exists rag.%I', format('stage_g%s_t%s', p_generation, v_place));
        end loop;
    else
        execute format('drop table if exists rag.%I', format('chunk_g%s', p_generation));
    end if;
    update rag.generation g set state = 'dropped' where g.generation_id = p_generation;
end
$$;

-- prune_cache: forgets the embeddings that no standing generation uses and no build may be about to use.
create function rag.prune_cache(p_age interval) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_embeddings bigint;
begin
    delete from rag.embedding_cache e
    where e.created_at < clock_timestamp() - p_age and not exists (select from rag.chunk c where c.text_digest = e.text_digest);
    get diagnostics v_embeddings = row_count;
    return v_embeddings;
end
$$;

-- record_gates: what the recall, leak and quality checks measured, before the swap.
create function rag.record_gates(p_generation int, p_gates jsonb) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    update rag.generation set gates = p_gates where generation_id = p_generation and state in ('attached', 'retired', 'live')
$$;
-- Evaluation: suites, their cases, and every answer's score. A result is never edited; a new evaluation is a new row.
-- The text of answers stands in eval.result alone: the evaluation's artifact holds digests and scores, so that an erasure
-- has one place to go to and the evidence behind a release outlives it.

create table eval.suite (
    suite_id bigint generated always as identity primary key,
    use_case text not null,
    name text not null,
    digest text not null,
    gated boolean not null,
    cases int not null,
    first_seen_at timestamptz not null default clock_timestamp(),
    unique (use_case, name, digest)
);

-- A case of the locked test split holds no text of its own: its key is the digest of a row of catalog.locked_example.
create table eval.suite_case (
    case_id bigint generated always as identity primary key,
    suite_id bigint not null references eval.suite,
    case_key text not null,
    digest text not null,
    question text, -- null once erased
    principal text, -- null: asked on nobody's behalf, without retrieval
    expect jsonb, -- null once erased
    tags text[] not null default '{}',
    unique (suite_id, case_key)
);

create table eval.evaluation (
    evaluation_id bigint generated always as identity primary key,
    use_case text not null,
    run_id uuid not null references lineage.run,
    suite_id bigint not null references eval.suite,
    subject text not null check (subject in ('base', 'champion', 'candidate', 'sft')),
    model_version_id bigint not null references lineage.artifact_version,
    index_version_id bigint references lineage.artifact_version, -- null: answered without retrieval
    artifact_version_id bigint references lineage.artifact_version,
    metrics jsonb not null, -- per metric: value, low, high, n
    evaluated_at timestamptz not null default clock_timestamp(),
    unique nulls not distinct (run_id, suite_id, subject, index_version_id)
);
create index evaluation_by_artifact on eval.evaluation (artifact_version_id);
create index evaluation_by_model on eval.evaluation (use_case, model_version_id);

create table eval.result (
    evaluation_id bigint not null references eval.evaluation,
    case_id bigint not null references eval.suite_case,
    scores jsonb not null, -- per metric, in [0, 1]
    answer text, -- null once erased
    answer_digest text not null,
    documents text[] not null, -- keys of what was retrieved
    seconds real not null,
    primary key (evaluation_id, case_id)
);

-- The paired difference of two evaluations over the same cases.
create table eval.comparison (
    comparison_id bigint generated always as identity primary key,
    candidate_id bigint not null references eval.evaluation,
    baseline_id bigint not null references eval.evaluation,
    metric text not null,
    difference double precision not null,
    low double precision not null,
    high double precision not null,
    confidence double precision not null,
    n int not null,
    method text not null,
    unique (candidate_id, baseline_id, metric, method)
);

-- unserved: a digest of the documents of an index generation that it answers nobody from by now (withdrawn or expired),
-- or null where it serves them all. With the generation's own digest it says what an evaluation can have retrieved.
create function eval.unserved(p_use_case text, p_index_version bigint) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select encode(sha256(convert_to(string_agg(distinct c.document_version_id::text, ',' order by c.document_version_id::text), 'UTF8')), 'hex')
    from rag.generation g join rag.chunk c on c.generation_id = g.generation_id
    where g.use_case = p_use_case and g.artifact_version_id = p_index_version and g.state in ('attached', 'live', 'retired')
      and (c.status <> 1 or c.expires_at <= clock_timestamp())
$$;
grant execute on function eval.unserved to evaluator;
-- Release: thresholds sealed before training, their application, persons' answers, and what they let through.

create table release.policy (
    policy_id bigint generated always as identity primary key,
    use_case text not null,
    digest text not null,
    content jsonb not null,
    sealed_by text not null,
    login text not null default session_user,
    sealed_at timestamptz not null default clock_timestamp(),
    unique (use_case, digest)
);

-- Every sealing, also of thresholds that were sealed before: which policy was in force when. Without it, somebody could
-- seal many policies in advance and choose among them once the results are known.
create table release.sealing (
    sealing_id bigint generated always as identity primary key,
    policy_id bigint not null references release.policy,
    use_case text not null,
    sealed_by text not null,
    login text not null default session_user,
    sealed_at timestamptz not null default clock_timestamp()
);
create index sealing_by_use_case on release.sealing (use_case, sealing_id);

create table release.decision (
    decision_id bigint generated always as identity primary key,
    use_case text not null,
    kind text not null check (kind in ('model', 'index', 'rollback')),
    policy_id bigint references release.policy,
    run_id uuid references lineage.run,
    model_version_id bigint references lineage.artifact_version,
    index_version_id bigint references lineage.artifact_version,
    replaces bigint references lineage.deployment, -- what was live when it was decided
    outcome text not null check (outcome in ('approve', 'approve_with_conditions', 'block')),
    checks jsonb not null,
    evidence jsonb not null, -- digests of the evaluations and reports it rests on
    needs_person boolean not null,
    requested_by text not null,
    login text not null default session_user,
    decided_at timestamptz not null default clock_timestamp(),
    check (kind <> 'model' or (policy_id is not null and model_version_id is not null and run_id is not null))
);
create index decision_by_use_case on release.decision (use_case, kind, decision_id);

alter table lineage.deployment add foreign key (decision_id) references release.decision;

-- Persons' answers. "refused" is an approval that the rules did not accept, kept with its reason.
create table release.approval (
    approval_id bigint generated always as identity primary key,
    decision_id bigint not null references release.decision,
    answer text not null check (answer in ('approve', 'reject', 'timeout', 'refused', 'superseded')),
    person text, -- null for a timeout or a supersession
    reason text not null check (reason <> ''),
    login text not null default session_user,
    answered_at timestamptz not null default clock_timestamp(),
    check ((person is null) = (answer in ('timeout', 'superseded')))
);
create unique index one_final_answer on release.approval (decision_id) where answer in ('approve', 'reject', 'timeout', 'superseded');

create table release.waiver (
    waiver_id bigint generated always as identity primary key,
    decision_id bigint not null references release.decision,
    check_name text not null,
    person text not null,
    reason text not null,
    expires_at timestamptz not null,
    granted_at timestamptz not null default clock_timestamp()
);

-- Nobody approves what he asked for himself, whichever code path writes the row.
create function release.refuse_own_approval() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if new.answer = 'approve'
       and new.person = (select d.requested_by from release.decision d where d.decision_id = new.decision_id) then
        raise exception '% asked for decision % and cannot approve it', new.person, new.decision_id using errcode = 'NS020';
    end if;
    return new;
end
$$;
create trigger refuse_own_approval before insert on release.approval
for each row execute function release.refuse_own_approval();

-- check_decision: what a decision may say. A model is approved under a policy of its use case that was sealed before the
-- gate began, in the name of whoever asked for the gate's run, with every check passed; a person cannot be left out where
-- the policy asks for one. A rollback goes to a pair that was live before.
create function release.check_decision() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_policy release.policy;
    v_run lineage.run;
begin
    if new.kind = 'model' then
        select * into v_policy from release.policy p where p.policy_id = new.policy_id;
        select * into v_run from lineage.run r where r.run_id = new.run_id;
        if v_policy.use_case <> new.use_case then
            raise exception 'policy % is none of use case %', new.policy_id, new.use_case using errcode = 'NS024';
        end if;
        if v_policy.sealed_at > v_run.started_at then
            raise exception 'policy % was sealed after its gate began', new.policy_id using errcode = 'NS024';
        end if;
        if v_run.requested_by <> new.requested_by then
            raise exception 'the gate was asked for by %, not by %', v_run.requested_by, new.requested_by using errcode = 'NS024';
        end if;
        if new.outcome <> 'block' and not new.needs_person
           and (new.outcome = 'approve_with_conditions' or coalesce((v_policy.content ->> 'asks_a_person')::boolean, true)) then
            raise exception 'a person has to answer for this decision' using errcode = 'NS024';
        end if;
        if new.outcome <> 'block' and (jsonb_array_length(new.checks) = 0
           or exists (select from jsonb_array_elements(new.checks) c
                      where c ->> 'verdict' is distinct from 'pass'
                        and not (new.outcome = 'approve_with_conditions' and c ->> 'verdict' = 'condition'))) then
            raise exception 'a check did not pass: the decision can only block' using errcode = 'NS024';
        end if;
    elsif new.kind = 'rollback' and new.outcome <> 'block'
          and not exists (select from lineage.deployment d
                          where d.use_case = new.use_case and d.valid_to is not null
                            and d.model_version_id is not distinct from new.model_version_id
                            and d.index_version_id is not distinct from new.index_version_id) then
        raise exception 'this pair of model and index was never live in use case %', new.use_case using errcode = 'NS024';
    end if;
    return new;
end
$$;
create trigger check_decision before insert on release.decision
for each row execute function release.check_decision();

-- seal_policy: the same thresholds are the same policy, and the first time they were sealed counts; every sealing is
-- written down.
create function release.seal_policy(p_use_case text, p_digest text, p_content jsonb, p_by text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_policy bigint;
begin
    insert into release.policy (use_case, digest, content, sealed_by) values (p_use_case, p_digest, p_content, p_by)
    on conflict (use_case, digest) do nothing;
    select p.policy_id into v_policy from release.policy p where p.use_case = p_use_case and p.digest = p_digest;
    insert into release.sealing (policy_id, use_case, sealed_by) values (v_policy, p_use_case, p_by);
    return v_policy;
end
$$;

-- answer: a person's answer to a decision, or that none came in time. Approving one's own run is written down as refused;
-- a second final answer is an error. Returns the answer as it counts.
create function release.answer(p_decision bigint, p_answer text, p_person text, p_reason text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_decision release.decision;
    v_final text;
    v_answer text := p_answer;
    v_reason text := p_reason;
begin
    if p_answer not in ('approve', 'reject', 'timeout') then
        raise exception 'an answer is approve, reject or timeout, not %', p_answer using errcode = 'NS021';
    end if;
    select * into v_decision from release.decision d where d.decision_id = p_decision for update;
    if v_decision.decision_id is null then
        raise exception 'there is no decision %', p_decision using errcode = 'NS021';
    end if;
    select a.answer into v_final from release.approval a where a.decision_id = p_decision and a.answer <> 'refused';
    if v_final is not null then
        raise exception 'decision % has been answered: %', p_decision, v_final using errcode = 'NS022';
    end if;
    if exists (select from lineage.deployment d where d.decision_id = p_decision) then
        raise exception 'decision % has been carried out', p_decision using errcode = 'NS022';
    end if;
    if p_answer = 'approve' and p_person = v_decision.requested_by then
        v_answer := 'refused';
        v_reason := format('%s asked for this run and cannot approve it', p_person);
    elsif p_answer = 'approve' and v_decision.outcome = 'block' then
        v_answer := 'refused';
        v_reason := 'the gate blocked this candidate';
    end if;
    insert into release.approval (decision_id, answer, person, reason) values (p_decision, v_answer, p_person, v_reason);
    return v_answer;
end
$$;

-- supersede: a decision that lets a candidate through ends the older ones of its use case that still wait. Returns those.
create function release.supersede(p_decision bigint) returns setof bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_decision release.decision;
begin
    select * into v_decision from release.decision d where d.decision_id = p_decision;
    if v_decision.decision_id is null then
        raise exception 'there is no decision %', p_decision using errcode = 'NS021';
    end if;
    if v_decision.outcome = 'block' then
        return;
    end if;
    -- Locked first, as release.answer locks them, so that an answer and a supersession cannot both be written.
    perform from release.decision d
    where d.use_case = v_decision.use_case and d.kind = v_decision.kind and d.decision_id < p_decision and d.outcome <> 'block'
    order by d.decision_id for update;
    return query
    with older as (
        insert into release.approval (decision_id, answer, reason)
        select d.decision_id, 'superseded', format('decision %s is about a newer candidate', p_decision)
        from release.decision d
        where d.use_case = v_decision.use_case and d.kind = v_decision.kind and d.decision_id < p_decision and d.outcome <> 'block'
          and not exists (select from release.approval a where a.decision_id = d.decision_id and a.answer <> 'refused')
          and not exists (select from lineage.deployment w where w.decision_id = d.decision_id)
        returning decision_id
    )
    select o.decision_id from older o order by o.decision_id;
end
$$;

-- promote: promotion, rollback and index swap alike. Compare-and-set: it ends the deployment that the decision was
-- made against, and refuses when another one is live by now. Null expected: nothing may be live.
create function lineage.promote(p_use_case text, p_alias text, p_model bigint, p_index bigint, p_expected bigint,
                                p_decision bigint, p_by text, p_why text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_decision release.decision;
    v_live bigint;
    v_deployment bigint;
    v_now timestamptz;
begin
    perform pg_advisory_xact_lock(hashtextextended('lineage.promote/' || p_use_case || '/' || p_alias, 0));
    -- Locked, so that an answer which comes in meanwhile is before it or after it.
    select * into v_decision from release.decision d where d.decision_id = p_decision for update;
    if v_decision.decision_id is null or v_decision.use_case <> p_use_case then
        raise exception 'decision % is none of use case %', p_decision, p_use_case using errcode = 'NS021';
    end if;
    if v_decision.outcome = 'block' then
        raise exception 'decision % blocked what it looked at', p_decision using errcode = 'NS023';
    end if;
    if v_decision.model_version_id is distinct from p_model or v_decision.index_version_id is distinct from p_index
       or v_decision.replaces is distinct from p_expected then
        raise exception 'decision % was about another pair of model and index', p_decision using errcode = 'NS023';
    end if;
    if exists (select from release.approval a where a.decision_id = p_decision and a.answer in ('reject', 'timeout', 'superseded'))
       or (v_decision.needs_person
           and not exists (select from release.approval a where a.decision_id = p_decision and a.answer = 'approve')) then
        raise exception 'decision % has no approval by a person', p_decision using errcode = 'NS023';
    end if;
    select d.deployment_id into v_live from lineage.deployment d
    where d.use_case = p_use_case and d.alias = p_alias and d.valid_to is null for update;
    if v_live is distinct from p_expected then
        raise exception 'deployment % of % is live, not % which the decision was made against',
            coalesce(v_live::text, 'none'), p_use_case, coalesce(p_expected::text, 'none') using errcode = 'NS002';
    end if;
    v_now := clock_timestamp();
    update lineage.deployment d set valid_to = v_now where d.deployment_id = v_live;
    insert into lineage.deployment (use_case, alias, model_version_id, index_version_id, decision_id, replaces, promoted_by, why, valid_from)
    values (p_use_case, p_alias, p_model, p_index, p_decision, p_expected, p_by, p_why, v_now)
    returning deployment_id into v_deployment;
    return v_deployment;
end
$$;

grant execute on function release.supersede to pipeline, approver;
grant select on release.sealing to reader;
-- Audit: who did what, by ids and digests. Triggers write an event in the acting transaction, so that it stands if and
-- only if the act does. A sealer chains committed events in batches; writers take no common lock, and an open
-- transaction keeps nobody waiting: its events go into a later block.

create table audit.event (
    event_id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    login text not null default session_user,
    object text not null,
    operation text not null check (operation in ('INSERT', 'UPDATE', 'DELETE')),
    key jsonb not null
);

create table audit.block (
    block_no bigint primary key check (block_no > 0),
    previous_hash bytea not null,
    hash bytea not null,
    events int not null check (events > 0),
    sealed_at timestamptz not null default clock_timestamp()
);

create table audit.block_member (
    event_id bigint primary key references audit.event,
    block_no bigint not null references audit.block
);
create index block_member_by_block on audit.block_member (block_no);

-- record: the columns named by the trigger, and nothing else, go into the event.
create function audit.record() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_row jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
begin
    insert into audit.event (object, operation, key)
    select tg_table_schema || '.' || tg_table_name, tg_op, coalesce(jsonb_object_agg(name, v_row -> name), '{}')
    from unnest(tg_argv) as name;
    return null;
end
$$;

create trigger audited after insert or update or delete on lineage.deployment for each row execute function
    audit.record('deployment_id', 'use_case', 'alias', 'model_version_id', 'index_version_id', 'decision_id', 'replaces', 'promoted_by', 'valid_to');
create trigger audited after insert or update or delete on lineage.artifact_version for each row execute function
    audit.record('version_id', 'artifact_id', 'digest', 'purged_at');
create trigger audited after insert or update or delete on catalog.dataset_version for each row execute function
    audit.record('dataset_id', 'version', 'digest');
create trigger audited after insert or update or delete on catalog.document_version for each row execute function
    audit.record('document_version_id', 'document_id', 'digest', 'classification', 'groups', 'status', 'retain_until');
create trigger audited after insert or update or delete on catalog.steward_decision for each row execute function
    audit.record('steward_decision_id', 'finding_id', 'decision', 'person');
create trigger audited after insert or update or delete on catalog.tombstone for each row execute function
    audit.record('hmac', 'use_case', 'kind');
create trigger audited after insert or update or delete on rag.generation for each row execute function
    audit.record('generation_id', 'use_case', 'state', 'digest');
create trigger audited after insert or update or delete on rag.withdrawal for each row execute function
    audit.record('seq', 'use_case', 'document_key');
create trigger audited after insert or update or delete on rag.principal for each row execute function
    audit.record('use_case', 'name', 'tenant', 'groups', 'clearance');
create trigger audited after insert or update or delete on release.policy for each row execute function
    audit.record('policy_id', 'use_case', 'digest', 'sealed_by');
create trigger audited after insert or update or delete on release.sealing for each row execute function
    audit.record('sealing_id', 'policy_id', 'use_case', 'sealed_by');
create trigger audited after insert or update or delete on release.decision for each row execute function
    audit.record('decision_id', 'use_case', 'kind', 'policy_id', 'model_version_id', 'index_version_id', 'replaces', 'outcome', 'requested_by');
create trigger audited after insert or update or delete on release.approval for each row execute function
    audit.record('approval_id', 'decision_id', 'answer', 'person');
create trigger audited after insert or update or delete on release.waiver for each row execute function
    audit.record('waiver_id', 'decision_id', 'check_name', 'person', 'expires_at');

-- event_hash: over every column, in a form that does not depend on a session's settings.
create function audit.event_hash(e audit.event) returns bytea
language sql stable set search_path = pg_catalog, pg_temp as $$
    select sha256(convert_to(jsonb_build_array(
        e.event_id, to_char(e.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), e.login, e.object, e.operation, e.key)::text, 'UTF8'))
$$;

create function audit.block_hash(p_previous bytea, p_events bigint[]) returns bytea
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select sha256(p_previous || coalesce(string_agg(audit.event_hash(e), ''::bytea order by e.event_id), ''::bytea))
    from audit.event e where e.event_id = any (p_events)
$$;

-- seal: chains what is committed and not yet chained. Returns the new head, or nothing when there was nothing to seal.
create function audit.seal(p_limit int default 10000) returns table (block_no bigint, hash text, events int)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_events bigint[];
    v_previous bytea;
    v_block bigint;
    v_hash bytea;
begin
    perform pg_advisory_xact_lock(hashtextextended('audit.seal', 0));
    select array_agg(e.event_id) into v_events from (
        select e.event_id from audit.event e
        where not exists (select from audit.block_member m where m.event_id = e.event_id)
        order by e.event_id limit p_limit
    ) e;
    if v_events is null then
        return;
    end if;
    select b.block_no, b.hash into v_block, v_previous from audit.block b order by b.block_no desc limit 1;
    v_block := coalesce(v_block, 0) + 1;
    v_previous := coalesce(v_previous, sha256(''::bytea));
    v_hash := audit.block_hash(v_previous, v_events);
    insert into audit.block (block_no, previous_hash, hash, events) values (v_block, v_previous, v_hash, cardinality(v_events));
    insert into audit.block_member (event_id, block_no) select id, v_block from unnest(v_events) id;
    return query select v_block, encode(v_hash, 'hex'), cardinality(v_events);
end
$$;

-- verify: every block that does not hash as recorded, does not follow its predecessor, or has lost a member.
create function audit.verify() returns table (block_no bigint, problem text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    with chained as (
        select b.*, lag(b.hash, 1, sha256(''::bytea)) over (order by b.block_no) as before,
               lag(b.block_no, 1, 0::bigint) over (order by b.block_no) as place,
               coalesce((select array_agg(m.event_id) from audit.block_member m where m.block_no = b.block_no), '{}') as members
        from audit.block b
    )
    select c.block_no, case
        when c.block_no <> c.place + 1 then 'a block before it is missing'
        when c.previous_hash <> c.before then 'it does not follow the block before it'
        when cardinality(c.members) <> c.events then 'an event was added or is missing'
        else 'its events do not hash to what was sealed' end
    from chained c
    where c.block_no <> c.place + 1 or c.previous_hash <> c.before or cardinality(c.members) <> c.events
       or audit.block_hash(c.previous_hash, c.members) <> c.hash
    order by c.block_no
$$;
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
    select * from catalog.steward_decision s where s.finding_id = f.finding_id order by s.steward_decision_id desc limit 1
) s on true;

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

-- edges: what went into what, by which run.
create view lineage.edges as
select i.version_id as source, o.version_id as target, o.run_id, i.role as input_role, o.role as output_role
from lineage.run_input i join lineage.run_output o using (run_id);

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

-- broken: runs that failed or were lost, and which nothing has made good since: neither the same task nor the same work.
create view lineage.broken as
select distinct on (j.use_case, j.name, r.dag_id, r.task_id, r.map_index)
       j.use_case, j.name as job, r.dag_id, r.dag_run_id, r.task_id, r.run_id, r.state, t.error_class, r.started_at, r.ended_at
from lineage.run r
join lineage.job j using (job_id)
left join lateral (
    select t.error_class from lineage.attempt t where t.run_id = r.run_id order by t.fence desc limit 1
) t on true
where r.state in ('failed', 'lost')
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
    select * from release.decision d where d.run_id = n.gate_run order by d.decision_id desc limit 1
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
       s.groups, count(*) as chunks
from lineage.live l
join rag.generation g on g.artifact_version_id = l.index_version_id and g.use_case = l.use_case and g.state = 'live'
join rag.chunk k on k.generation_id = g.generation_id and k.status = 1 and k.expires_at > clock_timestamp()
join rag.acl_set s on s.acl_id = k.acl_id
group by l.use_case, l.deployment_id, g.generation_id, k.document_key, k.document_version_id, k.tenant, s.classification, s.groups;

-- access: the documents that each principal can be answered from, by the rule of rag.acl_ids.
create view rag.access as
select p.use_case, p.name as principal, p.tenant, p.groups as principal_groups, p.clearance, d.deployment_id, d.generation_id,
       d.document_key, d.document_version_id, d.classification, d.groups, d.chunks
from rag.principal p
join rag.served_documents d on d.use_case = p.use_case and d.tenant = p.tenant
where array_position(array['public', 'internal', 'confidential', 'restricted'], d.classification)
      <= array_position(array['public', 'internal', 'confidential', 'restricted'], p.clearance)
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
select e.event_id, e.at, e.login, e.object, e.operation, e.key, m.block_no
from audit.event e left join audit.block_member m using (event_id);

create view audit.chain as
select b.block_no, encode(b.previous_hash, 'hex') as previous_hash, encode(b.hash, 'hex') as hash, b.events, b.sealed_at
from audit.block b;
-- Grants. What is not here is not allowed. The functions that write lineage run with their owner's rights and check the
-- attempt; the tables behind them are granted to nobody for writing.

grant usage on schema lineage to pipeline, trainer, evaluator, retriever, reader, auditor, approver;
grant usage on schema catalog to pipeline, trainer, evaluator, reader, auditor;
grant usage on schema rag to pipeline, evaluator, retriever, reader, auditor;
grant usage on schema eval to pipeline, evaluator, reader, auditor, approver;
grant usage on schema release to pipeline, evaluator, reader, auditor, approver;
grant usage on schema audit to pipeline, reader, auditor;

-- Lineage: the roles that do work read all of it (it holds ids, digests and counts) and write through functions.
grant select on all tables in schema lineage to pipeline, trainer, evaluator, auditor, approver;
grant execute on function lineage.begin_run, lineage.hold_attempt, lineage.heartbeat, lineage.finish_run, lineage.fail_run
    to pipeline, trainer, evaluator, approver;
grant execute on function lineage.ancestry, lineage.descendants, lineage.what_was_live
    to pipeline, trainer, evaluator, reader, auditor, approver;
grant execute on function lineage.sweep_lost to pipeline;
grant execute on function lineage.promote to pipeline, approver;

-- The data stage.
grant select, insert on all tables in schema catalog to pipeline;
grant update (removed_in) on catalog.document_member, catalog.example_member to pipeline;
grant update (body) on catalog.document_version to pipeline;
grant update (content) on catalog.example, catalog.locked_example to pipeline;
grant execute on function catalog.example_members, catalog.document_members to pipeline, trainer, evaluator, auditor;

-- The trainer reads the rows it trains and selects on, and no other text: neither locked rows nor documents.
grant select on catalog.dataset, catalog.dataset_version, catalog.example, catalog.example_member to trainer;

-- The evaluator reads what it scores on.
grant select on catalog.dataset, catalog.dataset_version, catalog.example, catalog.locked_example, catalog.example_member to evaluator;
grant select, insert on all tables in schema eval to evaluator;
grant select on release.policy to evaluator;

-- The index builder (pipeline) and its functions; chunks themselves are granted to nobody.
grant select on rag.generation, rag.acl_set, rag.embedding_cache, rag.principal, rag.withdrawal to pipeline;
grant insert on rag.acl_set, rag.embedding_cache, rag.principal to pipeline;
grant update on rag.principal to pipeline;
grant delete on rag.principal to pipeline;
grant execute on function rag.create_version, rag.seal_version, rag.attach, rag.adopt, rag.standing, rag.contents,
    rag.text_digests, rag.withdraw, rag.erase, rag.replay, rag.swap, rag.drop_version, rag.prune_cache, rag.prune_sessions,
    rag.record_gates, rag.acl_ids, rag.open_session, rag.open_session_as, rag.search, rag.search_generation to pipeline;
-- A policy is evaluated with the rights of whoever reads: anyone may ask what his own token shows.
grant execute on function rag.token_tenant, rag.token_acl_ids to public;
grant execute on function rag.open_session, rag.search, rag.search_generation to evaluator;
grant select on rag.generation to evaluator;
grant execute on function rag.search to retriever;

grant select, insert on all tables in schema eval to pipeline;
grant select on all tables in schema release to pipeline, auditor, approver;
grant insert on release.decision to pipeline;
grant execute on function release.seal_policy to pipeline;
grant execute on function release.answer to approver;
grant insert on release.waiver to approver;

-- The auditor reads every record and no text.
grant select on all tables in schema audit to auditor;
grant execute on function audit.seal, audit.verify to auditor, pipeline;
grant select on catalog.dataset, catalog.dataset_version, catalog.document_member, catalog.example_member, catalog.document,
    catalog.split_assignment, catalog.finding, catalog.steward_decision, catalog.tombstone to auditor;
grant select on rag.generation, rag.acl_set, rag.retrieval_audit, rag.withdrawal, rag.principal to auditor;
grant select on eval.suite, eval.evaluation, eval.comparison to auditor, approver;

-- The reader sees every view.
grant select on lineage.live, lineage.deployments, lineage.production_lineage, lineage.production_documents,
    lineage.nightly_results, lineage.run_history, lineage.artifacts, lineage.edges, lineage.outputs, lineage.attempts,
    lineage.run_keys, lineage.broken, lineage.nights to reader;
grant select on catalog.dataset_versions, catalog.findings, catalog.document_uses, catalog.dataset_changes to reader, auditor;
grant select on eval.evaluations to reader;
grant select on rag.retrievals, rag.generations, rag.served_documents, rag.access, rag.document_retrievals to reader, auditor;
grant select on release.policy, release.decision, release.approval, release.waiver, release.waiting to reader;
grant select on audit.events, audit.chain to reader, pipeline;

reset role;
