-- Search by words beside search by meaning.
set local role nightshift_owner;

alter table rag.chunk add words tsvector;
alter table rag.chunk alter column embedding set storage main;
alter table rag.generation add text_search text;
drop function rag.create_version(text, text, jsonb, text[]);

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
create or replace function rag.refusal(p_caller rag.caller, p_embedding halfvec, p_text text, p_k int) returns text
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
create or replace function rag.run_search(p_token text, p_generation int, p_embedding halfvec, p_text text, p_k int, p_deployment bigint)
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
        v_acl := rag.acl_ids(v_caller.use_case, v_caller.tenant, v_caller.groups, v_caller.clearance);
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
                                     acl_ids, chunk_ids, reason, token_digest)
    values (v_caller.use_case, v_caller.principal, v_caller.tenant, encode(sha256(convert_to(p_text, 'UTF8')), 'hex'),
            p_deployment, p_generation, v_route, v_visible, v_acl, v_chunks, v_reason, v_digest)
    returning retrieval_audit.audit_id into v_audit;
    return query select v_audit, v_route, v_reason, v_chunks;
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
create or replace function rag.seal_version(p_generation int) returns void
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

grant execute on function rag.create_version to pipeline;

reset role;
