-- Retrieval. Chunks stand in one partition per generation and, below it, one per tenant. Callers hold a token, not a
-- claim; the function resolves what the token may see, searches, and writes down what it returned.

create table rag.principal (
    use_case text not null,
    name text not null,
    tenant text not null,
    groups text[] not null,
    clearance text not null check (clearance in ('public', 'internal', 'confidential', 'restricted')),
    principal_id bigint generated always as identity unique, -- who was removed and comes back is another
    primary key (use_case, name)
);

-- What the gateway issues. The caller knows the token; the table knows its digest. A session holds no rights: they are its
-- principal's, as they are when it is used, and it goes with the principal. A caller of the leak test has no principal, and
-- rights of his own; a clearance that nobody knows sees nothing.
create table rag.session (
    token_digest bytea primary key,
    use_case text not null,
    tenant text,
    groups text[],
    clearance text,
    expires_at timestamptz not null,
    principal_id bigint references rag.principal (principal_id) on delete cascade,
    opened_at timestamptz not null default clock_timestamp(),
    purpose text not null default 'rag' check (purpose in ('rag', 'evaluate', 'train')), -- what its searches are for
    check ((principal_id is null) = (tenant is not null and groups is not null and clearance is not null)),
    check (expires_at > opened_at and expires_at <= opened_at + interval '1 hour')
);
create index session_by_expiry on rag.session (expires_at);
create index session_by_principal on rag.session (principal_id);

-- caller_of: whose rights a session has, now; nulls where there is no such session.
create type rag.caller as (
    token_digest bytea, use_case text, principal text, tenant text, groups text[], clearance text, expires_at timestamptz,
    purpose text
);
create function rag.caller_of(p_digest bytea) returns rag.caller
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select s.token_digest, s.use_case, coalesce(p.name, 'leak test'), coalesce(p.tenant, s.tenant),
           coalesce(p.groups, s.groups), coalesce(p.clearance, s.clearance), s.expires_at,
           s.purpose
    from rag.session s left join rag.principal p on p.principal_id = s.principal_id
    where s.token_digest = p_digest
$$;

-- One row per distinct right to read, so that a change of rights touches one row and no chunk.
create table rag.acl_set (
    acl_id int generated always as identity primary key,
    use_case text not null,
    tenant text not null,
    classification text not null check (classification in ('public', 'internal', 'confidential', 'restricted')),
    groups text[] not null,
    uses text[] not null default '{rag,train,evaluate,log}',
    unique (use_case, tenant, classification, groups, uses)
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
    attached_at timestamptz,
    text_search text -- Postgres's configuration for the words of chunks and questions; null: vectors alone
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
    embedding halfvec(384) not null,
    words tsvector -- of the body; null in a generation that is searched by vectors alone
) partition by list (generation_id);
alter table rag.chunk alter column embedding set storage main; -- every exact search reads it: what moves out of the row is the words
alter table rag.chunk enable row level security;
alter table rag.chunk force row level security;

-- Withdrawals in order, which is the order of their numbers: a clock can be set back. One counts for every version of its
-- document that does not name it as known when the version came in; a document comes back by a new version alone.
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
    reason text,
    login text not null default session_user,
    token_digest bytea, -- text is handed out to this session alone,
    transaction xid8 not null default pg_current_xact_id(), -- once the search has been committed
    read_at timestamptz,
    purpose text -- what the search was for; null: a refused one's, or from before searches had a purpose
);

-- What a reader may rely on is committed: an older snapshot would still show what was withdrawn since.
create function rag.require_read_committed() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'search runs in the isolation level read committed, not %: an older snapshot shows what was withdrawn',
            current_setting('transaction_isolation') using errcode = 'NS012';
    end if;
end
$$;

-- rank: the order of classifications, and so of clearances; null for what is none.
create function rag.rank(p_classification text) returns int
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select array_position(array['public', 'internal', 'confidential', 'restricted'], p_classification)
$$;

-- acl_ids: what a tenant's caller with these groups and this clearance may read for a purpose. Public documents are readable by
-- the whole tenant; everything else needs a shared group and enough clearance. Another tenant's documents never match, nor do
-- documents that may not be used for the purpose.
create function rag.acl_ids(p_use_case text, p_tenant text, p_groups text[], p_clearance text, p_purpose text) returns int[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce(array_agg(a.acl_id order by a.acl_id), '{}') from rag.acl_set a
    where a.use_case = p_use_case and a.tenant = p_tenant and p_purpose = any (a.uses)
      and rag.rank(a.classification) <= rag.rank(p_clearance)
      and (a.classification = 'public' or a.groups && p_groups)
$$;

-- token_tenant / token_acl_ids: what the token in the setting nightshift.token may see. For the policy below, which is
-- evaluated with the rights of whoever asks: the token cannot be made up, so the setting may be anyone's to set.
create function rag.token_tenant() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select s.tenant from rag.caller_of(sha256(convert_to(current_setting('nightshift.token', true), 'UTF8'))) s
    where s.expires_at > clock_timestamp()
$$;

create function rag.token_acl_ids() returns int[]
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select rag.acl_ids(s.use_case, s.tenant, s.groups, s.clearance, s.purpose) from rag.caller_of(sha256(convert_to(current_setting('nightshift.token', true), 'UTF8'))) s
    where s.expires_at > clock_timestamp()
$$;

-- The second wall: whoever was granted the table by mistake sees what his token may see, and without one nothing.
create policy chunk_visible on rag.chunk for select using (
    tenant = (select rag.token_tenant()) and acl_id = any ((select rag.token_acl_ids())::int[])
    and status = 1 and expires_at > now()
);
create policy chunk_maintained on rag.chunk to nightshift_owner using (true) with check (true);

-- issue: writes a session and returns its token. For the two functions below alone.
create function rag.issue(p_use_case text, p_principal bigint, p_tenant text, p_groups text[], p_clearance text, p_lifetime interval,
                          p_purpose text)
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_token text := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
    v_now timestamptz := clock_timestamp();
begin
    if p_lifetime is null or not (p_lifetime > interval '0' and p_lifetime <= interval '1 hour') then
        raise exception 'a session lives for up to an hour, not %', coalesce(p_lifetime::text, 'null') using errcode = 'NS013';
    elsif p_purpose is null or p_purpose not in ('rag', 'evaluate', 'train') then
        raise exception 'a session is for rag, evaluate or train, not %', coalesce(p_purpose, 'null') using errcode = 'NS013';
    elsif session_user = 'evaluator' and p_purpose <> 'evaluate' then
        raise exception 'the login evaluator searches to evaluate, not for %', p_purpose using errcode = 'NS013';
    end if;
    insert into rag.session (token_digest, use_case, principal_id, tenant, groups, clearance, opened_at, expires_at, purpose)
    values (sha256(convert_to(v_token, 'UTF8')), p_use_case, p_principal, p_tenant, p_groups, p_clearance, v_now, v_now + p_lifetime,
            p_purpose);
    return v_token;
end
$$;

-- open_session: a token for a principal that the use case names, for searches with one purpose. The gateway's to call, not the
-- caller's.
create function rag.open_session(p_use_case text, p_principal text, p_lifetime interval default interval '10 minutes',
                                 p_purpose text default 'rag')
returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_principal bigint;
begin
    select p.principal_id into v_principal from rag.principal p where p.use_case = p_use_case and p.name = p_principal;
    if not found then
        raise exception 'use case % has no principal %', p_use_case, p_principal using errcode = 'NS010';
    end if;
    return rag.issue(p_use_case, v_principal, null, null, null, p_lifetime, p_purpose);
end
$$;

-- open_session_as: a token for a caller that nobody named, for the leak test alone. Its searches are in the audit under
-- the name "leak test".
create function rag.open_session_as(p_use_case text, p_tenant text, p_groups text[], p_clearance text, p_purpose text default 'rag')
returns text
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select rag.issue(p_use_case, null, p_tenant, p_groups, p_clearance, interval '10 minutes', p_purpose)
$$;

-- revoke: ends the sessions of a principal at once. Returns how many there were.
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

-- words_of: the words of a text in their language. Postgres's parser reads CT-1 as "ct" and minus one, and and/or as a
-- file's path: what joins words parts them.
create function rag.words_of(p_config text, p_text text) returns tsvector
language sql stable set search_path = pg_catalog, pg_temp as $$
    select to_tsvector(p_config::regconfig, translate(p_text, '-‐‑–/_', '      '))
$$;

-- nearest_words: the ids of the k chunks of one tenant's partition whose words answer the text best, the best first. As in
-- BM25 a word counts by how rare it is, and here that means among the chunks that the caller may see: what he may not see
-- does not move his order. A word that more than 3,000 of them hold tells nothing, and of a long text the first 64 count.
create function rag.nearest_words(p_part text, p_acl int[], p_visible int, p_config text, p_text text, p_k int) returns bigint[]
language plpgsql stable security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_chunks bigint[];
begin
    execute format(
        'with word as (
             select w.lexeme, ('''''''' || replace(replace(w.lexeme, ''\'', ''\\''), '''''''', '''''''''''') || '''''''')::tsquery as query
             from unnest(rag.words_of($3, $4)) w order by w.positions[1], w.lexeme limit 64
         ), matched as materialized (
             select w.lexeme, m.chunk_id, m.rank from word w cross join lateral (
                 select c.chunk_id, ts_rank(c.words, w.query) as rank from rag.%I c
                 where c.words @@ w.query and c.acl_id = any ($1) and c.status = 1 and c.expires_at > clock_timestamp()
                 limit 3001) m
         ), telling as (
             select m.lexeme, ln(1 + ($2 - count(*) + 0.5) / (count(*) + 0.5)) as weight
             from matched m group by m.lexeme having count(*) <= 3000
         )
         select coalesce(array_agg(n.chunk_id order by n.score desc, n.chunk_id), ''{}'') from (
             select m.chunk_id, sum(t.weight * m.rank) as score from matched m join telling t using (lexeme)
             group by m.chunk_id order by score desc, m.chunk_id limit $5) n', p_part)
    into v_chunks using p_acl, p_visible, p_config, p_text, p_k;
    return v_chunks;
end
$$;

-- fused: the k best of two orders of chunks by the sum of their reciprocal ranks (Cormack, Clarke and Büttcher 2009, with
-- their constant of 60). Of equals, what the first order holds comes first.
create function rag.fused(p_first bigint[], p_second bigint[], p_k int) returns bigint[]
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select coalesce(array_agg(b.chunk_id order by b.score desc, b.place nulls last, b.chunk_id), '{}') from (
        select r.chunk_id, sum(1.0 / (60 + r.place)) as score, min(r.place) filter (where r.first) as place
        from (select f.chunk_id, f.place, true as first from unnest(p_first) with ordinality as f (chunk_id, place)
              union all
              select s.chunk_id, s.place, false from unnest(p_second) with ordinality as s (chunk_id, place)) r
        group by r.chunk_id
        order by score desc, place nulls last, r.chunk_id
        limit p_k) b
$$;

-- refusal: why a search is not made, or null. The vector has length 1, as the embedder gives it.
create function rag.refusal(p_caller rag.caller, p_embedding halfvec, p_text text, p_k int) returns text
language sql stable set search_path = pg_catalog, public, pg_temp as $$
    select case
        when p_caller.use_case is null then 'unknown token'
        when p_caller.expires_at < clock_timestamp() then 'expired token'
        when p_text is null then 'no text'
        when length(p_text) > 10000 then 'a text of more than 10,000 characters'
        when p_k is null or p_k < 1 or p_k > 100 then 'k is not 1 to 100'
        when p_embedding is null or vector_dims(p_embedding) <> 384 then 'no vector of 384 dimensions'
        when not abs(l2_norm(p_embedding) - 1) <= 0.01 then 'a vector that is not of length 1'
    end
$$;

-- run_search: finds the k nearest chunks of one generation for a token, by meaning and (where the generation has them) by
-- words, and writes them down, by ids. What is refused is
-- written down too and answered with nothing: an exception would roll its own audit row back. For the two functions below.
-- It names the tenant's own partition: a session that holds a lock on rag.chunk since before a swap would not see there
-- the partition that the new deployment names, and find nothing.
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
    v_depth int := p_k; -- of each order
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
        v_acl := rag.acl_ids(v_caller.use_case, v_caller.tenant, v_caller.groups, v_caller.clearance, v_caller.purpose);
        v_route := 'empty';
        if v_generation.generation_id is null then
            v_reason := 'no such index generation';
        elsif v_caller.tenant = any (v_generation.tenants) then
            execute format('select count(*) from rag.%I c where c.acl_id = any ($1) and c.status = 1'
                           ' and c.expires_at > clock_timestamp()', v_part) into v_visible using v_acl;
        end if;
        if v_generation.text_search is not null and p_text <> '' then
            v_depth := greatest(p_k, 50);
        end if;
        if v_visible > 3000 and to_regclass(format('rag.%I', v_part || '_hnsw')) is not null then
            v_route := 'hnsw';
            v_chunks := rag.nearest_hnsw(v_part, v_acl, p_embedding, v_depth);
        end if;
        -- A graph that lost its way is no excuse for a short answer.
        if v_visible > 0 and (v_route = 'empty' or cardinality(v_chunks) < least(v_depth, v_visible)) then
            v_route := 'exact';
            v_chunks := rag.nearest_exact(v_part, v_acl, p_embedding, v_depth);
        end if;
        if v_visible > 0 and v_generation.text_search is not null and p_text <> '' then
            v_chunks := rag.fused(v_chunks,
                rag.nearest_words(v_part, v_acl, v_visible, v_generation.text_search, p_text, v_depth), p_k);
        end if;
    end if;
    insert into rag.retrieval_audit (use_case, principal, tenant, query_digest, deployment_id, generation_id, route, visible,
                                     acl_ids, chunk_ids, reason, token_digest, purpose)
    values (v_caller.use_case, v_caller.principal, v_caller.tenant, encode(sha256(convert_to(p_text, 'UTF8')), 'hex'),
            p_deployment, p_generation, v_route, v_visible, v_acl, v_chunks, v_reason, v_digest, v_caller.purpose)
    returning retrieval_audit.audit_id into v_audit;
    return query select v_audit, v_route, v_reason, v_chunks;
end
$$;

-- search_generation: a search over one generation, for the evaluator and the tests of an index: one row, without text.
create function rag.search_generation(p_token text, p_generation int, p_embedding halfvec, p_text text, p_k int)
returns table (audit_id bigint, route text, reason text, chunk_ids bigint[])
language sql security definer set search_path = pg_catalog, public, pg_temp as $$
    select * from rag.run_search(p_token, p_generation, p_embedding, p_text, p_k, null)
$$;

-- search: over the index that is live for the token's use case: one row, without text.
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

-- read_hits: the text of what a search found. It is handed out against an audit row that has been committed, to the login
-- and the session that searched, within a minute and once; and what the caller may read is looked at again, so that
-- nothing is read that was withdrawn, or that he lost the right to, in between. A reading that is rolled back may be done
-- again within the minute: the search is on record all the same.
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
                  rag.acl_ids(v_caller.use_case, v_caller.tenant, v_caller.groups, v_caller.clearance, v_caller.purpose);
    end if;
end
$$;

-- set_words: the words of a chunk come from its body, whatever a builder loads.
create function rag.set_words() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    new.words := rag.words_of(tg_argv[0], new.body);
    return new;
end
$$;

-- create_version: a generation and one staging table per tenant, which the builder alone may COPY into. (COPY into a
-- table with forced row-level security is refused by Postgres: staging has none, and no other role can read it.)
-- The lock makes every withdrawal up to the mark committed, so that a builder that reads them afterwards sees them all.
create function rag.create_version(p_use_case text, p_embedder text, p_chunker jsonb, p_tenants text[], p_text_search text default null)
returns table (generation_id int, tenant text, staging regclass)
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '30s' as $$
declare
    v_generation int;
    v_place bigint;
    v_tenant text;
    v_stage text;
begin
    if not exists (select from pg_ts_config c where c.cfgname = coalesce(p_text_search, 'simple') and c.cfgnamespace = 'pg_catalog'::regnamespace) then
        raise exception 'this Postgres has no text search configuration %', p_text_search using errcode = 'NS011';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('rag.swap/' || p_use_case, 0));
    insert into rag.generation (use_case, state, embedder, chunker, tenants, text_search, tombstone_mark)
    values (p_use_case, 'building', p_embedder, p_chunker, p_tenants, p_text_search,
            coalesce((select max(w.seq) from rag.withdrawal w where w.use_case = p_use_case), 0))
    returning rag.generation.generation_id into v_generation;
    for v_place, v_tenant in select t.place, t.name from unnest(p_tenants) with ordinality as t (name, place) loop
        v_stage := format('stage_g%s_t%s', v_generation, v_place);
        execute format('create table rag.%I (like rag.chunk including constraints including storage)', v_stage);
        -- What a planner knows of a column is a sample of what stands in it, and outlives it.
        execute format('alter table rag.%I alter column body set statistics 0, alter column words set statistics 0', v_stage);
        if p_text_search is not null then
            execute format('create trigger with_words before insert on rag.%I for each row execute function rag.set_words(%L)',
                           v_stage, p_text_search);
        end if;
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
        if v_generation.text_search is not null then
            execute format('create index on rag.%I using gin (words) with (fastupdate = off)', v_stage);
        end if;
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

-- swap: replays, then makes the generation that a decision is about live through promote. In one transaction.
create function rag.swap(p_decision bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '30s' as $$
declare
    v_generation rag.generation;
begin
    select g.* into v_generation from release.decision d
    join rag.generation g on g.use_case = d.use_case and g.artifact_version_id = d.index_version_id
                             and g.state in ('attached', 'live', 'retired')
    where d.decision_id = p_decision and d.kind = 'index';
    if v_generation.generation_id is null then
        raise exception 'decision % is about no index that stands', p_decision using errcode = 'NS011';
    end if;
    perform rag.replay(v_generation.generation_id);
    select * into v_generation from rag.generation g where g.generation_id = v_generation.generation_id for update;
    if v_generation.state not in ('attached', 'retired') or not rag.standing(v_generation.generation_id) then
        raise exception 'index generation % is %, not attached', v_generation.generation_id, v_generation.state using errcode = 'NS011';
    end if;
    return lineage.promote(p_decision);
end
$$;

-- sync_principals: makes the principals of a use case those that a plan's run was begun with; what is equal is not touched. So each
-- change of a right has a run that says whose login, when, and what the YAML said. A plan that ended before cannot be taken up
-- again: it may give rights that were taken since.
create function rag.sync_principals(p_run uuid) returns table (changed bigint, removed bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_use_case text;
    v_principals jsonb;
begin
    perform lineage.permitted('retrieval.plan');
    select j.use_case, r.params -> 'principals' into v_use_case, v_principals
    from lineage.run r
    join lineage.job j on j.job_id = r.job_id and j.name = 'retrieval.plan'
    join lineage.attempt a on a.run_id = r.run_id and a.login = session_user and a.state in ('running', 'succeeded')
    where r.run_id = p_run
      and not exists (select from lineage.run n where n.job_id = r.job_id and n.started_at > r.started_at and n.state = 'succeeded');
    if v_use_case is null or jsonb_typeof(v_principals) is distinct from 'array' then
        raise exception 'run % is not the newest plan of an index by the login %, with principals', p_run, session_user using errcode = 'NS030';
    end if;
    return query
    with wanted as (
        select p.name, p.tenant, p.groups, p.clearance
        from jsonb_to_recordset(v_principals) as p (name text, tenant text, groups text[], clearance text)
    ), gone as (
        delete from rag.principal o where o.use_case = v_use_case and o.name not in (select w.name from wanted w)
        returning 1
    ), written as (
        insert into rag.principal as o (use_case, name, tenant, groups, clearance)
        select v_use_case, w.name, w.tenant, w.groups, w.clearance from wanted w
        on conflict (use_case, name) do update
        set tenant = excluded.tenant, groups = excluded.groups, clearance = excluded.clearance
        where (o.tenant, o.groups, o.clearance) is distinct from (excluded.tenant, excluded.groups, excluded.clearance)
        returning 1
    )
    select (select count(*) from written), (select count(*) from gone);
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

-- mark_withdrawals: a document version knows the last withdrawal of its document that came before it, whichever code path
-- writes it. One that is not committed yet is not known, and counts.
create function rag.mark_withdrawals() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    select coalesce(max(w.seq), 0) into new.withdrawal_mark
    from catalog.document d join rag.withdrawal w on w.use_case = d.use_case and w.document_key = d.document_key
    where d.document_id = new.document_id;
    return new;
end
$$;
create trigger marked before insert on catalog.document_version
for each row execute function rag.mark_withdrawals();

-- Locks that a build, a commit and a sync of a use case hold while they last, until the session ends. Only these
-- functions can take them: nobody else may call pg_advisory_lock in this database (see the grants).
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

-- end_idle: ends sessions of our logins that have stood idle in a transaction for so long: the locks they hold keep
-- others waiting, and a login can undo its own time-outs. Returns how many.
create function rag.end_idle(p_longer interval) returns int
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select count(*)::int from (
        select pg_terminate_backend(a.pid) from pg_stat_activity a
        where a.datname = current_database() and a.pid <> pg_backend_pid() and a.state like 'idle in transaction%'
          and a.state_change < clock_timestamp() - p_longer
          and a.usename in ('pipeline', 'trainer', 'evaluator', 'retriever', 'reader', 'auditor', 'approver')
    ) ended
$$;
