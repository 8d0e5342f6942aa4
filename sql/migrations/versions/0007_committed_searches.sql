-- Searches hand out text only against a committed audit row, sessions have their principal's rights of the moment, and
-- withdrawals count by their numbers. Sessions that were open end: their tokens held rights of their own.
set local role nightshift_owner;

delete from rag.session;
alter table rag.principal add column principal_id bigint generated always as identity unique;
drop function rag.search(text, halfvec, text, int);
drop function rag.search_generation(text, int, halfvec, text, int, bigint);
drop function rag.open_session(text, text, interval);
drop function rag.open_session_as(text, text, text[], text);
drop function rag.issue(text, text, text, text[], text, interval);
alter table rag.session drop column principal, alter column tenant drop not null, alter column groups drop not null,
    alter column clearance drop not null,
    add column principal_id bigint references rag.principal (principal_id) on delete cascade,
    add column opened_at timestamptz not null default clock_timestamp(),
    add check ((principal_id is null) = (tenant is not null and groups is not null and clearance is not null)),
    add check (expires_at > opened_at and expires_at <= opened_at + interval '1 hour');
create index session_by_principal on rag.session (principal_id);
alter table rag.retrieval_audit add column login text not null default session_user, add column token_digest bytea,
    add column transaction xid8 not null default pg_current_xact_id(), add column read_at timestamptz;
alter table catalog.document_version add column withdrawal_mark bigint not null default 0;
update catalog.document_version v set withdrawal_mark = coalesce((
    select max(w.seq) from catalog.document d join rag.withdrawal w on w.use_case = d.use_case and w.document_key = d.document_key
    where d.document_id = v.document_id and w.at < v.first_seen_at), 0);

-- caller_of: whose rights a session has, now; nulls where there is no such session.
create type rag.caller as (
    token_digest bytea, use_case text, principal text, tenant text, groups text[], clearance text, expires_at timestamptz
);
create function rag.caller_of(p_digest bytea) returns rag.caller
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select s.token_digest, s.use_case, coalesce(p.name, 'leak test'), coalesce(p.tenant, s.tenant),
           coalesce(p.groups, s.groups), coalesce(p.clearance, s.clearance), s.expires_at
    from rag.session s left join rag.principal p on p.principal_id = s.principal_id
    where s.token_digest = p_digest
$$;

create function rag.require_read_committed() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'search runs in the isolation level read committed, not %: an older snapshot shows what was withdrawn',
            current_setting('transaction_isolation') using errcode = 'NS012';
    end if;
end
$$;

create or replace function rag.token_tenant() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select s.tenant from rag.caller_of(sha256(convert_to(current_setting('nightshift.token', true), 'UTF8'))) s
    where s.expires_at > clock_timestamp()
$$;

create or replace function rag.token_acl_ids() returns int[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select rag.acl_ids(s.use_case, s.tenant, s.groups, s.clearance) from rag.caller_of(sha256(convert_to(current_setting('nightshift.token', true), 'UTF8'))) s
    where s.expires_at > clock_timestamp()
$$;

create function rag.issue(p_use_case text, p_principal bigint, p_tenant text, p_groups text[], p_clearance text, p_lifetime interval)
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_token text := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
    v_now timestamptz := clock_timestamp();
begin
    if p_lifetime is null or not (p_lifetime > interval '0' and p_lifetime <= interval '1 hour') then
        raise exception 'a session lives for up to an hour, not %', coalesce(p_lifetime::text, 'null') using errcode = 'NS013';
    end if;
    insert into rag.session (token_digest, use_case, principal_id, tenant, groups, clearance, opened_at, expires_at)
    values (sha256(convert_to(v_token, 'UTF8')), p_use_case, p_principal, p_tenant, p_groups, p_clearance, v_now, v_now + p_lifetime);
    return v_token;
end
$$;

create function rag.open_session(p_use_case text, p_principal text, p_lifetime interval default interval '10 minutes')
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_principal bigint;
begin
    select p.principal_id into v_principal from rag.principal p where p.use_case = p_use_case and p.name = p_principal;
    if not found then
        raise exception 'use case % has no principal %', p_use_case, p_principal using errcode = 'NS010';
    end if;
    return rag.issue(p_use_case, v_principal, null, null, null, p_lifetime);
end
$$;

create function rag.open_session_as(p_use_case text, p_tenant text, p_groups text[], p_clearance text) returns text
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select rag.issue(p_use_case, null, p_tenant, p_groups, p_clearance, interval '10 minutes')
$$;

create function rag.revoke(p_use_case text, p_principal text) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_sessions int;
begin
    delete from rag.session s using rag.principal p
    where p.principal_id = s.principal_id and p.use_case = p_use_case and p.name = p_principal;
    get diagnostics v_sessions = row_count;
    return v_sessions;
end
$$;

create function rag.refusal(p_caller rag.caller, p_embedding halfvec, p_text text, p_k int) returns text
language sql stable set search_path = pg_catalog, public, pg_temp as $$
    select case
        when p_caller.use_case is null then 'unknown token'
        when p_caller.expires_at < clock_timestamp() then 'expired token'
        when p_text is null then 'no text'
        when p_k is null or p_k < 1 or p_k > 100 then 'k is not 1 to 100'
        when p_embedding is null or vector_dims(p_embedding) <> 384 then 'no vector of 384 dimensions'
        when not abs(l2_norm(p_embedding) - 1) <= 0.01 then 'a vector that is not of length 1'
    end
$$;

create function rag.run_search(p_token text, p_generation int, p_embedding halfvec, p_text text, p_k int, p_deployment bigint)
returns table (audit_id bigint, route text, reason text, chunk_ids bigint[])
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_digest bytea := sha256(convert_to(p_token, 'UTF8'));
    v_caller rag.caller;
    v_generation rag.generation;
    v_part text;
    v_acl int[] := '{}';
    v_visible int := 0;
    v_route text := 'refused';
    v_reason text;
    v_chunks bigint[] := '{}';
    v_audit bigint;
begin
    perform rag.require_read_committed();
    select * into v_caller from rag.caller_of(v_digest);
    v_reason := rag.refusal(v_caller, p_embedding, p_text, p_k);
    if v_reason is null then
        select * into v_generation from rag.generation g
        where g.generation_id = p_generation and g.use_case = v_caller.use_case and g.state in ('attached', 'live', 'retired');
        v_part := format('chunk_g%s_t%s', p_generation, array_position(v_generation.tenants, v_caller.tenant));
        v_acl := rag.acl_ids(v_caller.use_case, v_caller.tenant, v_caller.groups, v_caller.clearance);
        v_route := 'empty';
        if v_generation.generation_id is null then
            v_reason := 'no such index generation';
        elsif v_caller.tenant = any (v_generation.tenants) then
            execute format('select count(*) from rag.%I c where c.acl_id = any ($1) and c.status = 1'
                           ' and c.expires_at > clock_timestamp()', v_part) into v_visible using v_acl;
        end if;
        if v_visible > 3000 and to_regclass(format('rag.%I', v_part || '_hnsw')) is not null then
            v_route := 'hnsw';
            v_chunks := rag.nearest_hnsw(v_part, v_acl, p_embedding, p_k);
        end if;
        -- A graph that lost its way is no excuse for a short answer.
        if v_visible > 0 and (v_route = 'empty' or cardinality(v_chunks) < least(p_k, v_visible)) then
            v_route := 'exact';
            v_chunks := rag.nearest_exact(v_part, v_acl, p_embedding, p_k);
        end if;
    end if;
    insert into rag.retrieval_audit (use_case, principal, tenant, query_digest, deployment_id, generation_id, route, visible,
                                     acl_ids, chunk_ids, reason, token_digest)
    values (v_caller.use_case, v_caller.principal, v_caller.tenant, encode(sha256(convert_to(p_text, 'UTF8')), 'hex'),
            p_deployment, p_generation, v_route, v_visible, v_acl, v_chunks, v_reason, v_digest)
    returning retrieval_audit.audit_id into v_audit;
    return query select v_audit, v_route, v_reason, v_chunks;
end
$$;

create function rag.search_generation(p_token text, p_generation int, p_embedding halfvec, p_text text, p_k int)
returns table (audit_id bigint, route text, reason text, chunk_ids bigint[])
language sql security definer set search_path = pg_catalog, public, pg_temp as $$
    select * from rag.run_search(p_token, p_generation, p_embedding, p_text, p_k, null)
$$;

create function rag.search(p_token text, p_embedding halfvec, p_text text, p_k int)
returns table (audit_id bigint, route text, reason text, chunk_ids bigint[])
language sql security definer set search_path = pg_catalog, public, pg_temp as $$
    select s.* from (select 1) one
    left join rag.session t on t.token_digest = sha256(convert_to(p_token, 'UTF8'))
    left join lineage.deployment d on d.use_case = t.use_case and d.alias = 'live' and d.valid_to is null
    left join rag.generation g on g.artifact_version_id = d.index_version_id and g.use_case = d.use_case
                              and g.state in ('attached', 'live', 'retired')
    cross join lateral rag.run_search(p_token, g.generation_id, p_embedding, p_text, p_k, d.deployment_id) s
$$;

create function rag.read_hits(p_token text, p_audit bigint, p_embedding halfvec)
returns table (document_key text, document_version_id bigint, chunk_id bigint, score real, body text)
language plpgsql volatile security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    v_audit rag.retrieval_audit;
    v_caller rag.caller;
    v_tenants text[];
begin
    perform rag.require_read_committed();
    select * into v_audit from rag.retrieval_audit a where a.audit_id = p_audit for update;
    select * into v_caller from rag.caller_of(sha256(convert_to(p_token, 'UTF8'))) s where s.expires_at > clock_timestamp();
    if v_audit.audit_id is null or v_caller.use_case is null or v_audit.login <> session_user
       or v_audit.token_digest is distinct from v_caller.token_digest
       or pg_xact_status(v_audit.transaction) is distinct from 'committed' or v_audit.read_at is not null
       or v_audit.at < clock_timestamp() - interval '60 seconds' or v_audit.at > clock_timestamp() + interval '60 seconds' then
        raise exception 'the text of search % is not to be had: it is given once, within a minute, to the session that'
            ' searched, after the search was committed', p_audit using errcode = 'NS014';
    end if;
    update rag.retrieval_audit a set read_at = clock_timestamp() where a.audit_id = p_audit;
    select g.tenants into v_tenants from rag.generation g
    where g.generation_id = v_audit.generation_id and g.use_case = v_caller.use_case and g.state in ('attached', 'live', 'retired');
    if v_caller.tenant = any (v_tenants) then
        return query execute format(
            'select c.document_key, c.document_version_id, c.chunk_id, (-(c.embedding <#> $2))::real, c.body
             from unnest($1) with ordinality as hit (id, place) join rag.%I c on c.chunk_id = hit.id
             where c.acl_id = any ($3) and c.status = 1 and c.expires_at > clock_timestamp()
             order by hit.place', format('chunk_g%s_t%s', v_audit.generation_id, array_position(v_tenants, v_caller.tenant)))
            using v_audit.chunk_ids, p_embedding,
                  rag.acl_ids(v_caller.use_case, v_caller.tenant, v_caller.groups, v_caller.clearance);
    end if;
end
$$;

create or replace function rag.create_version(p_use_case text, p_embedder text, p_chunker jsonb, p_tenants text[])
returns table (generation_id int, tenant text, staging regclass)
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '30s' as $$
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

create or replace function rag.replay(p_generation int) returns int
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '30s' as $$
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
                  where w.use_case = v_use_case and w.document_key = c.document_key and w.seq > v.withdrawal_mark);
    get diagnostics v_chunks = row_count;
    return v_chunks;
end
$$;

create or replace function rag.withdraw(p_use_case text, p_document_key text, p_reason text) returns int
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '30s' as $$
declare
    v_chunks int;
begin
    if not exists (select from catalog.document d where d.use_case = p_use_case and d.document_key = p_document_key) then
        raise exception 'use case % has no document % to withdraw', p_use_case, p_document_key using errcode = 'NS015';
    end if;
    perform pg_advisory_xact_lock_shared(hashtextextended('rag.swap/' || p_use_case, 0));
    insert into rag.withdrawal (use_case, document_key, reason) values (p_use_case, p_document_key, p_reason);
    update rag.chunk c set status = 2
    where c.generation_id in (select g.generation_id from rag.generation g where g.use_case = p_use_case)
      and c.document_key = p_document_key and c.status = 1;
    get diagnostics v_chunks = row_count;
    return v_chunks;
end
$$;

create or replace function rag.swap(p_generation int, p_expected bigint, p_decision bigint, p_by text, p_why text) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '30s' as $$
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

create function rag.mark_withdrawals() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    select coalesce(max(w.seq), 0) into new.withdrawal_mark
    from catalog.document d join rag.withdrawal w on w.use_case = d.use_case and w.document_key = d.document_key
    where d.document_id = new.document_id;
    return new;
end
$$;

create function rag.lock_work(p_use_case text, p_work text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_advisory_lock(hashtextextended('work/' || p_work || '/' || p_use_case, 0));
end
$$;

create function rag.try_lock_work(p_use_case text, p_work text) returns boolean
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select pg_try_advisory_lock(hashtextextended('work/' || p_work || '/' || p_use_case, 0))
$$;

create function rag.unlock_work(p_use_case text, p_work text) returns boolean
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select pg_advisory_unlock(hashtextextended('work/' || p_work || '/' || p_use_case, 0))
$$;

create function rag.end_idle(p_longer interval) returns int
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select count(*)::int from (
        select pg_terminate_backend(a.pid) from pg_stat_activity a
        where a.datname = current_database() and a.pid <> pg_backend_pid() and a.state like 'idle in transaction%'
          and a.state_change < clock_timestamp() - p_longer
          and a.usename in ('pipeline', 'trainer', 'evaluator', 'retriever', 'reader', 'auditor', 'approver')
    ) ended
$$;

create trigger marked before insert on catalog.document_version
for each row execute function rag.mark_withdrawals();

grant execute on function rag.open_session, rag.open_session_as, rag.search, rag.search_generation, rag.read_hits, rag.revoke,
    rag.lock_work, rag.try_lock_work, rag.unlock_work, rag.end_idle to pipeline;
grant execute on function rag.open_session, rag.search, rag.search_generation, rag.read_hits to evaluator;
grant execute on function rag.search, rag.read_hits to retriever;
grant insert (withdrawal_mark) on catalog.document_version to pipeline; -- which its trigger overwrites

reset role;

-- An advisory lock is anybody's to take, and ours keep withdrawals and swaps in order: only the owner's functions take
-- them. A limit that a login can undo is no wall, but it ends what was left open by mistake.
do $$
declare
    f regprocedure;
    name text;
begin
    for f in select p.oid from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ '^pg_(try_)?advisory' loop
        execute format('revoke execute on function %s from public', f);
        execute format('grant execute on function %s to nightshift_owner', f);
    end loop;
    foreach name in array array['pipeline', 'trainer', 'evaluator', 'retriever', 'reader', 'auditor', 'approver'] loop
        execute format('alter role %I in database %I set lock_timeout = ''5min''', name, current_database());
        execute format('alter role %I in database %I set statement_timeout = ''2h''', name, current_database());
        execute format('alter role %I in database %I set idle_in_transaction_session_timeout = ''30min''', name, current_database());
    end loop;
    grant pg_signal_backend, pg_read_all_stats to nightshift_owner;
end
$$;
